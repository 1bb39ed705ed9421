#!/usr/bin/python
"""Put a package on a host, keep it running, or take it away: one call per host.

This file is what `ansible-doc` shows. The plugin of the same name in action_plugins/ does
the work, with files/hostler.
"""

DOCUMENTATION = r"""
---
module: hostler_package
short_description: Deploy and control an agent, proxy or plugin on a host
description:
  - Does everything a job does on a host in one call, phase by phase, and reports every phase.
  - Holds the host's lock, refuses stale runs, and puts back what was there when something fails.
options:
  action:
    description: What to do.
    type: str
    required: true
    choices: [install, upgrade, restart, reload, uninstall, detect, activate, release]
  name:
    description: The service; its unit is C(hostler-<name>.service).
    type: str
    default: agent
  token:
    description: >
      Which run this is, as C(run), C(task) and C(attempt), and as C(fence), which grows with every
      claim of a host; C(origin) tells one installation's numbers from another's. Without a token
      the run is one by hand, which waits for the lock.
    type: dict
  packages:
    description: The candidates, one per cpu; the one that fits this host is taken.
    type: list
    elements: dict
  package_file:
    description: A package archive on the controller, sent along instead of being fetched.
    type: path
  setup_path:
    description: The folder that holds the service's folder.
    type: str
    default: /opt/hostler
  config:
    description: Values for the package's templates.
    type: dict
  fresh:
    description: Install again even what is already there.
    type: bool
    default: false
  standing_key:
    description: A public key that may log in from now on; uninstall takes that back.
    type: str
  account:
    description: Whose authorized keys hold the standing key.
    type: str
  deadline:
    description: For how many seconds the host may work.
    type: int
  service_manager:
    description: Who keeps the program running.
    type: str
    default: auto
    choices: [auto, systemd, process]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - Hostler (@hostler)
"""

EXAMPLES = r"""
- name: Install an agent
  hostler_package:
    action: install
    packages:
      - name: node_exporter
        version: 1.5.0
        os: LINUX
        cpu: x86_64
        sha256: 5f0c...
        size: 8212345
        url: http://192.0.2.1:8081/packages/5f0c...?exp=1790000000&sig=...
        manifest: "{{ manifest }}"
"""

RETURN = r"""
phases:
  description: What was done, in order, as key, status, changed, log and seconds.
  type: list
  elements: dict
  returned: always
cause:
  description: Why it failed, in one word.
  type: str
  returned: always
reason:
  description: The outcome in a sentence; on failure, what to do now.
  type: str
  returned: always
before:
  description: The release, whether it ran, and the checksum of its configuration.
  type: dict
  returned: always
after:
  description: The same afterwards, and the pid, cpu, os and name of the host.
  type: dict
  returned: always
restored:
  description: Whether a failure put back what was there before.
  type: bool
  returned: always
released:
  description: Whether nothing of the run is left here.
  type: bool
  returned: on release
holder:
  description: Who held the lock, in words.
  type: str
  returned: on release
"""
