"""Answers like the package module: phases, a cause and a reason, and waits where it is told to."""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(
        argument_spec={
            "cause": {"type": "str"},
            "reason": {"type": "str"},
            "mark": {"type": "path"},
            "until": {"type": "path"},
            "seconds": {"type": "float", "default": 0},
            "keys": {"type": "list", "elements": "str", "default": ["check", "start"]},
        }
    )
    given = module.params
    if given["mark"]:
        with Path(given["mark"]).open("a") as file:
            file.write("touched\n")
    time.sleep(given["seconds"])
    while given["until"] and not Path(given["until"]).exists():
        time.sleep(0.05)
    status = "failed" if given["reason"] else "ok"
    result = {
        "changed": True,
        "cause": given["cause"],
        "reason": given["reason"],
        "phases": [
            {"key": key, "status": status, "changed": True, "log": f"{key}\n", "seconds": 0.1}
            for key in given["keys"]
        ],
        "before": {"release": None, "running": False, "config_sha256": ""},
    }
    if given["reason"]:
        module.fail_json(msg=given["reason"], **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
