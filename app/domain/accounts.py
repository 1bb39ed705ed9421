"""What an account on a host may be called."""


def account_problem(account: str) -> str | None:
    """Why ssh cannot be told this account, or None; one that got through would end a whole run."""
    if account and account.isprintable() and not set(account) & set('"\\'):
        return None
    return f'{account!r} cannot be an account; it takes printable characters except " and \\'
