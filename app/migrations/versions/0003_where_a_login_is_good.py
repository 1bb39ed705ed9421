"""Where a login is good: the address it was given for, the way standing access was granted on."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ADDRESS = "COALESCE(NULLIF(login_ip, ''), inner_ip, inner_ipv6, '')"
WAY = (
    "CAST(zone_id AS VARCHAR) || ' ' || COALESCE(CAST(install_channel_id AS VARCHAR), '-')"
    " || ' ' || CAST(access_point_id AS VARCHAR)"
    f" || ' ' || {ADDRESS} || ' ' || CAST(port AS VARCHAR)"
)


def upgrade() -> None:
    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("address", sa.String(length=39), nullable=False, server_default=sa.text("''"))
        )
    with op.batch_alter_table("host", schema=None) as batch_op:
        batch_op.add_column(sa.Column("standing_way", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("standing_part_id", NUMBER, nullable=True))
        batch_op.add_column(sa.Column("standing_since", sa.DateTime(timezone=True), nullable=True))
    address = f"SELECT {ADDRESS} FROM host WHERE host.id = credential.host_id"  # noqa: S608 - constants
    op.execute(f"UPDATE credential SET address = COALESCE(({address}), '')")  # noqa: S608 - constants
    op.execute(f"UPDATE host SET standing_way = {WAY} WHERE standing_account IS NOT NULL")  # noqa: S608 - constants


def downgrade() -> None:
    with op.batch_alter_table("host", schema=None) as batch_op:
        batch_op.drop_column("standing_since")
        batch_op.drop_column("standing_part_id")
        batch_op.drop_column("standing_way")
    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.drop_column("address")
