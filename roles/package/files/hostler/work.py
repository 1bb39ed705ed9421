"""The work on one host, phase by phase, and the way back when it fails."""

import hashlib
import http.client
import json
import os
import re
import socket
import sys
import time

from . import accounts, archive, files, keys, processes, render, services
from .failure import Failure, explain, read_only
from .lock import Lock
from .watch import Watch

DEPLOY = ("check", "fetch", "unpack", "render", "switch", "start", "verify")
PHASES = {
    "install": DEPLOY,
    "upgrade": DEPLOY,
    "restart": ("check", "restart", "verify"),
    "reload": ("check", "render", "reload", "verify"),
    "activate": ("check", "render", "verify"),
    "uninstall": ("check", "stop", "remove", "verify"),
    "detect": ("check", "detect"),
    "release": ("release",),
}
DONE = {
    "install": "installed",
    "upgrade": "upgraded",
    "restart": "restarted",
    "reload": "reloaded",
    "activate": "configured",
}
NEEDS_AGENT = ("upgrade", "restart", "reload", "activate")
STARTS = ("install", "upgrade", "restart", "reload", "activate")
RUNS = ("install", "upgrade", "restart", "reload")  # these start a program
WRITES = ("install", "upgrade", "reload", "activate", "uninstall")  # these change its files
CPUS = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
NAME = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")
VERSION = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.+~_-]{0,62}$")
SHA256 = re.compile(r"^[0-9a-f]{64}$")
SKIPPED = "skipped"
STATUSES = ("ok", SKIPPED)  # what a phase may end with; afterwards it may be called restored
MOST_OS_RELEASE = 65536
HURRY = 3.0  # seconds a program gets to stop while we are being cancelled


class Place:
    """Where things are on this host."""

    def __init__(self, name, setup_path, root=""):
        if not NAME.match(name):
            raise Failure("task_failed", f"{name!r} is no name of a service.")
        self.name = name
        self.root = root.rstrip("/")
        self.base = os.path.join(self.at(setup_path, "hostler_setup_path"), name)
        self.releases = os.path.join(self.base, "releases")
        self.current = os.path.join(self.base, "current")
        self.etc = os.path.join(self.base, "etc")
        self.log = os.path.join(self.base, "log")
        self.values = os.path.join(self.base, "values.json")
        self.pending = os.path.join(self.base, ".restart-pending")
        self.new = os.path.join(self.base, ".new")

    def at(self, path, meant="the path"):
        """The path as it is on this host, below HOSTLER_ROOT where that is set."""
        path = str(path)
        if not path.startswith("/") or ".." in path.split("/") or re.search(r"[\0-\x1f]", path):
            raise Failure("task_failed", f"{meant} {path!r} is no absolute path.")
        if os.path.normpath(path) in ("/", "//"):
            raise Failure("task_failed", f"{meant} {path!r} cannot be the place for anything.")
        return self.root + os.path.normpath(path)


def perform(arguments, check_mode=False, watch=None):
    """Do what the arguments say; the result is the truth about this host, also when it failed."""
    return Work(arguments, check_mode, watch or Watch(arguments.get("deadline"))).perform()


class Work:
    """One action on one host."""

    def __init__(self, arguments, check_mode, watch):
        self.arguments = arguments
        self.action = arguments["action"]
        self.watch = watch
        self.dry = check_mode
        self.changes = files.Changes(check_mode)
        self.phases = []
        self.result = {"restored": False}
        self.fresh = bool(arguments.get("fresh")) and self.action == "install"
        self.package = self.manifest = self.target = self.known = None
        self.was = services.NOT_THERE
        self.is_touched = self.is_defined = self.was_pending = False
        self.place = self.manager = self.lock = self.before = None

    # --- The frame ---------------------------------------------------------------------------

    def perform(self):
        failure = None
        try:
            for key in _phases_of(self.action):
                self._phase(key)
            self._keep()
        except Exception as error:
            failure = explain(error)
            self._fail(failure)
        finally:
            if self.lock:
                self.lock.drop()
        try:
            return self._report(failure)
        except Exception as error:
            return self._report_what_was_done(failure or explain(error))

    def _report_what_was_done(self, failure):
        """When the host cannot even be looked at any more: what was done is told all the same."""
        self.result.update(
            changed=self._has_changed(),
            msg=failure.reason,
            cause=failure.cause,
            reason=failure.reason,
            phases=self.phases,
            before=self.before,
            after=None,
            diff=self.changes.diff,
        )
        return self.result

    def _phase(self, key):
        """One phase: what it did in words, whether it changed anything, how long it took."""
        self.phase = {"key": key, "status": "failed", "changed": False, "log": "", "seconds": 0.0}
        self.phases.append(self.phase)
        started = time.monotonic()
        try:
            self.watch.look()
            self.phase["status"] = _checked_status(getattr(self, key)())
        except Exception as error:
            self.say(explain(error).reason)
            raise
        finally:
            self.phase["seconds"] = round(time.monotonic() - started, 3)

    def say(self, text):
        self.phase["log"] += text + "\n"

    def did(self, text):
        self.say(text)
        self.phase["changed"] = True

    def _keep(self):
        if self.action == "release" or self.dry:
            return
        for trouble in self.changes.keep():
            self.say(f"What is no longer needed could not be removed: {trouble}")
        if self.action in ("install", "upgrade"):
            self._drop_old_releases()

    def _report(self, failure):
        reason = failure.reason if failure else self._success()
        changed = any(phase["changed"] for phase in self.phases)
        self.result.update(
            changed=changed,
            msg=reason,
            cause=failure.cause if failure else None,
            reason=reason,
            phases=self.phases,
            before=self.before,
            after=self._after(),
        )
        self.result["diff"] = self.changes.diff
        return self.result

    def _success(self):
        if self.action in ("release", "detect"):
            return self.phases[-1]["log"].strip()
        if self.action == "uninstall":
            if not self._has_changed():
                return f"No {self.place.name} is installed; nothing was changed."
            return f"The {self.place.name} {'would be' if self.dry else 'is'} removed."
        release = self.before["release"] if self.action not in ("install", "upgrade") else None
        version = (release or self.package or {}).get("version")
        if not self._has_changed():
            return f"The {self.place.name} {version} is as it should be; nothing was changed."
        is_done = "would be" if self.dry else "is"
        return f"The {self.place.name} {version} {is_done} {DONE[self.action]}."

    def _has_changed(self):
        return any(phase["changed"] for phase in self.phases)

    def _after(self):
        if self.action == "release" or self.manager is None:
            return None
        try:
            state = self.manager.state()
        except (Failure, OSError):
            state = services.NOT_THERE
        return dict(
            self._snapshot(state),
            pid=state.pid,
            cpu_arch=os.uname().machine,
            os_version=_os_version(),
            hostname=socket.gethostname(),
        )

    def _snapshot(self, state):
        release = _release_at(self.place.current)
        if release:
            release = {key: release[key] for key in ("version", "sha256", "path")}
        return {
            "release": release,
            "running": state.pid is not None,
            "config_sha256": _digest_of(self.place.etc),
            "standing_key": self._has_standing_key(),
        }

    def _has_standing_key(self):
        """Whether Hostler's key may log in; None when this run has nothing to do with it."""
        key = self.arguments.get("standing_key")
        if not key:
            return None
        try:
            return keys.is_authorised(key, self._account(), self.place.root)
        except (Failure, OSError):
            return False

    # --- The way back ------------------------------------------------------------------------

    def _fail(self, failure):
        """Put back what was there, and say so."""
        self.watch.is_restoring = True
        if self.dry or self.lock is None or self.manager is None:
            return
        try:
            self._take_back(HURRY if failure.cause in ("cancelled", "timeout") else None)
        except Exception as error:
            failure.reason += f" Putting back what was there failed too: {explain(error).reason}"
            return
        if self.is_touched and self.action != "restart":
            self._mark_restored()
            self.say(self._what_is_back())
            failure.reason += " " + self._what_is_back()

    def _take_back(self, hurry):
        touched = self.is_touched and self.action != "restart"
        if touched and self.action != "uninstall":
            self.manager.stop(hurry or self._patience())
        troubles = self.changes.take_back()
        try:
            self._take_back_key()
        except (Failure, OSError) as error:
            troubles.append(explain(error).reason)
        if self.is_defined:
            self.manager.define() if os.path.exists(self.manager.path) else self._undefine()
        if touched and self.was.pid:
            self.manager.start()
            self._stay_up(1.0)
        if troubles:
            raise Failure("task_failed", "; ".join(troubles))
        if not self.was_pending and self.action != "restart":
            files.remove(self.place.pending)
        self._tidy()

    def _undefine(self):
        files.remove(getattr(self.manager, "wanted", self.manager.path))
        self.manager.define()
        self.manager.clear()

    def _tidy(self):
        """A first install that failed leaves no empty folders behind."""
        if self.before is None:
            return
        if not self.before["release"] and not os.path.lexists(self.place.current):
            for path in (self.place.releases, self.place.etc):
                files.remove(path)
            if os.path.isdir(self.place.base) and not os.listdir(self.place.base):
                os.rmdir(self.place.base)

    def _mark_restored(self):
        self.result["restored"] = True
        for phase in self.phases:
            if phase["changed"] and phase["status"] == "ok":
                phase["status"] = "restored"

    def _what_is_back(self):
        release = self.before["release"]
        if not release:
            return "Nothing of it is left running."
        runs = "runs again" if self.was.pid else "is back, stopped as it was"
        return "The previous release {} {}.".format(release["version"], runs)

    # --- check -------------------------------------------------------------------------------

    def check(self):
        arguments = self.arguments
        root = os.environ.get("HOSTLER_ROOT", "")
        self.place = Place(arguments["name"], arguments["setup_path"], root)
        manager = services.choose(arguments["service_manager"], self.place, self.watch)
        manager.refuse_without_rights()
        lock = Lock(lock_folder(self.place), arguments.get("token"), self.action, self.watch)
        lock.take()
        self.lock, self.manager = lock, manager
        if self.action in STARTS:
            manager.refuse_masked()
        if self.action == "uninstall":
            self._refuse_mounts()
        self._refuse_useless_mounts()
        self._look_around()
        self._choose_package()
        self._authorise()

    def _look_around(self):
        self._sweep()
        self.was = self.manager.state()
        self.before = self._snapshot(self.was)
        self.was_pending = os.path.exists(self.place.pending)
        installed = _release_at(self.place.current)
        self.manifest = installed["manifest"] if installed else None
        self.say(f"{_os_version()} on {os.uname().machine}, Python {sys.version.split()[0]}.")
        if not installed:
            self.say(f"No {self.place.name} is installed in {self.place.base}.")
        else:
            self.say(
                "{} {} is installed; {}.".format(
                    self.place.name, installed["version"], self.was.how
                )
            )
        if self.action in NEEDS_AGENT and not installed:
            raise Failure(
                "task_failed",
                f"There is no {self.place.name} in {self.place.base} on this host. "
                "Install it first.",
            )

    def _refuse_mounts(self):
        """Refuse before anything is removed: what is mounted below our folder is not ours."""
        mounted = files.mounts_below(self.place.base)
        if mounted:
            raise Failure(
                "task_failed",
                f"{', '.join(mounted)} is mounted from elsewhere, so {self.place.base} cannot be "
                "removed; nothing was changed. Unmount it, then retry.",
            )

    def _refuse_useless_mounts(self):
        """Refuse before anything is stopped where nothing can be changed, or nothing started."""
        where = (self.place.releases, self.place.etc, os.path.dirname(self.manager.path))
        is_there = os.path.lexists(self.place.base) or os.path.lexists(self.manager.path)
        if self.action in WRITES and (self.action != "uninstall" or is_there):
            for path in where:
                if os.statvfs(_nearest(path)).f_flag & os.ST_RDONLY:
                    raise Failure("task_failed", f"{read_only(path)} Nothing was changed.")
        programs = _nearest(self.place.releases)
        if self.action in RUNS and os.statvfs(programs).f_flag & os.ST_NOEXEC:
            raise Failure(
                "task_failed",
                f"{files.mount_of(programs)} is mounted noexec, so no program below "
                f"{self.place.base} can be started; nothing was changed. Mount it with exec, or "
                "choose another setup path, then retry.",
            )

    def _sweep(self):
        """What a killed run left: half-unpacked packages and what it had set aside."""
        if self.dry:
            return
        asides = [name for name in _list(self.place.releases) if name.startswith(".aside-")]
        for path in (
            self.place.new,
            files.aside_of(self.place.base),
            *(os.path.join(self.place.releases, name) for name in asides),
        ):
            try:
                files.remove(path)
            except OSError as error:  # such as something mounted there: no reason to do nothing
                self.say(f"A leftover could not be removed: {error}")

    def _choose_package(self):
        if self.action not in ("install", "upgrade"):
            return
        candidates = self.arguments.get("packages") or []
        if self.arguments.get("package_file"):
            candidates = [_described(self.arguments["package_file"])]
        self.package = _fitting(candidates, self.place.name)
        self.manifest = self.package["manifest"]
        name = "{}-{}".format(self.package["version"], self.package["sha256"][:8])
        self.target = os.path.join(self.place.releases, name)
        self.say(
            "The package is {} {} for {}.".format(
                self.package["name"], self.package["version"], self.package["cpu"]
            )
        )

    def _authorise(self):
        key = self.arguments.get("standing_key")
        if not key or self.action == "uninstall":
            return
        if self.dry:
            self.result["standing_key"] = None
            return
        try:
            is_new = keys.authorise(key, self._account(), self.place.root)
        except (Failure, OSError) as error:
            # an account without a home of its own is a way in all the same
            self.say(
                "Hostler's standing key could not be set up, so later jobs need a login: "
                + explain(error).reason
            )
            self.result["standing_key"] = None
            return
        if is_new:
            self.did(f"Hostler's standing key may log in as {self._account() or 'you'} now.")
        self.result["standing_key"] = "authorised" if is_new else "present"

    def _take_back_key(self):
        """Our key is there after a failure exactly if it was before."""
        key, did = self.arguments.get("standing_key"), self.result.get("standing_key")
        if did == "authorised":
            keys.withdraw(key, self._account(), self.place.root)
            self.result["standing_key"] = "taken back"
            self.say("Hostler's standing key may not log in any more.")
        elif did == "removed":
            keys.authorise(key, self._account(), self.place.root)
            self.result["standing_key"] = "present"
            self.say("Hostler's standing key may log in again.")

    def _account(self):
        return self.arguments.get("account") or os.environ.get("SUDO_USER")

    # --- fetch, unpack -----------------------------------------------------------------------

    def fetch(self):
        if self._is_here():
            self.say(f"{self.target} is already here.")
            return SKIPPED
        if self.dry:
            self.did("Would fetch {}.".format(self.package.get("url", "the package")))
            return None
        self.changes.scratch(self.place.new)
        path = self._archive()
        if self.arguments.get("package_file"):
            archive.verify(self.package, path)
            self.did(f"The package was sent along ({os.path.getsize(path)} bytes).")
        else:
            archive.fetch(self.package, path, self.watch)
            size = os.path.getsize(path)
            self.did(f"Fetched {size} bytes; the checksum is right.")
        return None

    def _is_here(self):
        kept = _release_at(self.target)
        return bool(kept) and kept["sha256"] == self.package["sha256"] and not self.fresh

    def _archive(self):
        return self.arguments.get("package_file") or os.path.join(self.place.new, "package.tar.gz")

    def unpack(self):
        if self._is_here():
            return SKIPPED
        if self.dry:
            self.did(f"Would unpack to {self.target}.")
            return None
        tree = os.path.join(self.place.new, "tree")
        os.mkdir(tree, 0o755)
        archive.unpack(self._archive(), tree, self.watch)
        self._refuse_without_program(tree)
        self._describe(tree)
        self.changes.move(tree, self.target)
        self.did(f"Unpacked to {self.target}.")
        return None

    def _refuse_without_program(self, tree):
        program = self.manifest["exec"][0]
        if not os.access(os.path.join(tree, program), os.X_OK):
            raise Failure("task_failed", f"The package holds no program {program}.")

    def _describe(self, tree):
        known = {key: self.package[key] for key in ("name", "version", "sha256", "manifest")}
        text = json.dumps(known, sort_keys=True)
        files.replace(os.path.join(tree, ".hostler.json"), text.encode(), 0o644)

    # --- render ------------------------------------------------------------------------------

    def render(self):
        values = self._values()
        source = self.target or os.path.realpath(self.place.current)
        if self.dry and not os.path.isdir(source):
            self.did(f"Would render the configuration below {self.place.etc}.")
            return
        for path, content, mode, owner in self._rendered(values, source):
            self._write(path, content, mode, owner)
        for folder in self._folders(values):
            self.changes.folder(folder, owner=accounts.ids_of(self.manifest.get("user")))
        if not self.phase["changed"]:
            self.say(f"The configuration in {self.place.etc} is as it should be.")
        return

    def _values(self):
        """What the templates may ask for: what we know here, over what the caller said."""
        if self.known is None:
            self.known = self._known_values()
        return self.known

    def _known_values(self):
        """An install says everything anew; any other action changes only what it names."""
        config = {} if self.action == "restart" else self.arguments.get("config") or {}
        given = {key: value for key, value in config.items() if value is not None}
        kept = {} if self.action == "install" and not self.fresh else self._kept_values()
        self.said = dict(kept, **given)
        values = dict({"address": ""}, **self.manifest.get("defaults") or {})
        values.update(self.said)
        values["address"] = self._own_address(values["address"])
        data_path = values.get("data_path")
        data = (
            self.place.at(data_path, "data_path")
            if data_path
            else os.path.join(self.place.base, "data")
        )
        return dict(
            values,
            name=self.place.name,
            version=self._version(),
            current=self.place.current,
            etc=self.place.etc,
            log=self.place.log,
            data=data,
            data_path=data,
        )

    def _own_address(self, address):
        """Where to listen; an address we are only known by, as behind a translation, means all."""
        if not address or _is_local(str(address)):
            return address
        self.say(f"{address} is not an address of this host itself; the agent listens on all.")
        return ""

    def _version(self):
        installed = _release_at(self.place.current) or {}
        return (self.package or installed).get("version", "")

    def _kept_values(self):
        """What earlier runs were told; an unreadable file is no reason to fail."""
        try:
            return dict(json.loads((files.read(self.place.values) or b"{}").decode()))
        except (OSError, ValueError, TypeError):
            return {}

    def _rendered(self, values, source):
        """Every file the values decide: (path, content, mode, owner)."""
        rendered, user = [], self.manifest.get("user")
        for item in self.manifest.get("config") or []:
            template = files.read(_below(source, item["source"]))
            if template is None:
                raise Failure("task_failed", "The package holds no {}.".format(item["source"]))
            written_as = item.get("format", "raw")
            text = render.render(template.decode(), values, written_as, item["path"])
            mode = int(str(item.get("mode", "600")), 8)
            owner = accounts.ids_of(item.get("owner") or user)
            rendered.append((_below(self.place.etc, item["path"]), text.encode(), mode, owner))
        definition = self.manager.definition(self._launch(values)).encode()
        rendered.append((self.manager.path, definition, 0o644, None))
        kept = json.dumps(self.said, sort_keys=True).encode()
        return [*rendered, (self.place.values, kept, 0o600, None)]

    def _launch(self, values):
        argv = [render.fill(item, values, render.plain, "exec") for item in self.manifest["exec"]]
        environment = self.manifest.get("environment")
        return {
            "argv": [_below(self.place.current, argv[0]), *argv[1:]],
            "folder": self.place.current,
            "environment": _below(self.place.etc, environment) if environment else None,
            "stop_timeout": int(self.manifest.get("stop_timeout") or 10),
            "user": self.manifest.get("user") or "",
        }

    def _folders(self, values):
        needed = json.dumps([self.manifest["exec"], self.manifest.get("config")])
        asked = "${data" in needed or values["data"] != os.path.join(self.place.base, "data")
        return [values["data"]] if asked else []

    def _write(self, path, content, mode, owner):
        if not self.changes.is_different(path, content, mode, owner):
            return
        if path != self.place.values:  # the values themselves reach the program by other files
            self._will_need_restart()
        if path == self.manager.path:
            self.is_defined = True
        self.changes.write(path, content, mode, owner)
        self.did("{} {}.".format("Would write" if self.dry else "Wrote", path))

    def _will_need_restart(self):
        """Until the program was started again, a killed run must not look finished."""
        if not self.dry and not os.path.exists(self.place.pending):
            self.changes.folder(self.place.base)
            files.replace(self.place.pending, archive.stamp().encode(), 0o644)

    # --- switch, start -----------------------------------------------------------------------

    def switch(self):
        target = os.path.relpath(self.target, self.place.base)
        now = os.readlink(self.place.current) if os.path.islink(self.place.current) else None
        if now == target and self._is_here():
            self.say(f"{target} is current.")
            return SKIPPED
        self._will_need_restart()
        self.changes.link(self.place.current, target)
        was = f", was {now}" if now else ""
        self.did(f"{self.place.current} -> {target}{was}")
        return None

    def start(self):
        if self._runs_as_it_should():
            self.say(f"It runs as process {self.was.pid}; nothing to do.")
            return SKIPPED
        if self.dry:
            self.did("Would start it.")
            return None
        self._start()
        return None

    def _runs_as_it_should(self):
        if self.dry:
            return self.was.pid and not any(phase["changed"] for phase in self.phases[1:])
        return self.was.pid and not self.fresh and not os.path.exists(self.place.pending)

    def _start(self):
        self.is_touched = True
        if self.is_defined:
            self.manager.define()
        self.manager.start()
        state = self.manager.state()
        self.did(f"Started as process {state.pid}." if state.pid else "Started.")

    def restart(self):
        if self.dry:
            self.did("Would restart it.")
            return
        self._start()

    def reload(self):
        wish = self.manifest.get("reload") or "restart"
        if self.dry:
            self.did("Would reload it.")
        elif wish == "restart" or not self.was.pid or self.is_defined:
            self.say("It reads its configuration only when it starts.")
            self._start()
        else:
            self.is_touched = True
            services.hang_up(self.was.pid)
            self.did(f"Asked process {self.was.pid} to read its configuration again.")

    def phase_of(self, key):
        return next(phase for phase in self.phases if phase["key"] == key)

    # --- verify ------------------------------------------------------------------------------

    def verify(self):
        if self.dry:
            return SKIPPED
        if self.action == "uninstall":
            return self._verify_removed()
        if self.action == "activate":
            return self._verify_configured()
        state = self._stay_up(float(self.manifest.get("stays_up", 2)))
        self._become_ready(state)
        self._check_version()
        files.remove(self.place.pending)
        return None

    def _stay_up(self, seconds):
        """It runs, and goes on running for so long."""
        state = self.manager.state()
        while state.pid and processes.age(state.pid) < seconds:
            self.watch.wait(0.1)
            if not processes.is_alive(state.pid, state.start):
                break
        now = self.manager.state()
        if not now.pid or now.pid != state.pid:
            raise Failure("agent_exited", self._obituary(now))
        self.say(f"It has been running as process {now.pid} for {processes.age(now.pid):.1f} s.")
        return now

    def _obituary(self, state):
        words = self.manager.last_words()
        said = "It wrote nothing."
        if words is None:
            said = "What it wrote is not known: this host keeps no journal that can be read."
        elif words:
            said = "Its last words: {}.".format(words.rstrip("."))
        return (
            f"The {self.place.name} does not stay up: {state.how}. {said} "
            f"Look at {self.manager.where_to_look}, mend it and retry."
        )

    def _become_ready(self, state):
        ready = self.manifest.get("ready") or {"kind": "none"}
        if ready["kind"] == "none":
            return
        values = self._values()
        port = int(render.fill(str(ready["port"]), values, render.plain, "ready"))
        named = [str(values["address"])] if values["address"] else []
        hosts = [*named, "127.0.0.1", "::1"]
        end = time.monotonic() + float(ready.get("within", 30))
        while True:
            trouble = self._knock(ready, hosts, port) or self._stranger(state.pid, port)
            if trouble is None:
                self.say(f"It answers on port {port}.")
                return
            if not processes.is_alive(state.pid, state.start):
                raise Failure("agent_exited", self._obituary(self.manager.state()))
            if time.monotonic() > end:
                raise Failure("agent_not_ready", self._silence(ready, port, trouble))
            self.watch.wait(0.2)

    def _knock(self, ready, hosts, port):
        """None when it answers at one of its addresses; else what each of them said."""
        troubles = []
        for host in hosts:
            try:
                path = ready.get("path", "/") if ready["kind"] == "http" else None
                trouble = _ask(host, port, path)
            except (OSError, http.client.HTTPException, Failure) as error:
                trouble = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if trouble is None:
                return None
            troubles.append(f"{host}: {trouble}")
        return "; ".join(troubles)

    def _stranger(self, pid, port):
        """None when the program itself listens there; else who answers in its place."""
        sockets = processes.listeners(port)
        if not sockets or processes.holder_of(sockets, processes.family_of(pid)):
            return None
        other = processes.holder_of(sockets, processes.everybody())
        if other is None:
            return None if os.geteuid() else "another program answers there"
        name = processes.name_of(other)
        return f"another program answers there, {name} (process {other})"

    def _silence(self, ready, port, trouble):
        words = self.manager.last_words()
        words = "not known, there is no journal to read" if words is None else words or "none"
        return (
            f"The {self.place.name} runs but did not become ready within "
            f"{ready.get('within', 30)} seconds on port {port} ({trouble}). "
            f"Its last words: {words}. Look at {self.manager.where_to_look}, mend it and retry."
        )

    def _check_version(self):
        command = self.manifest.get("version_command")
        if not command:
            return
        values = self._values()
        argv = [render.fill(item, values, render.plain, "version_command") for item in command]
        _, said = self.watch.run([_below(self.place.current, argv[0]), *argv[1:]], 15)
        found = re.search(self.manifest.get("version_pattern") or r"(\S+)", said)
        wanted = str(self.manifest.get("reported_version") or self._version())
        shown = found.group(1) if found else last_lines(said)
        if shown != wanted:
            text = "The program says its version is %s, but the package promised %s."
            raise Failure("task_failed", text % (shown or "unknown", wanted))
        self.say(f"It says its version is {shown}.")

    def _verify_configured(self):
        state = self.manager.state()
        if not state.pid:
            raise Failure(
                "agent_exited",
                f"The configuration is in place, but the {self.place.name} does not run: "
                f"{state.how}. Restart it.",
            )
        self.say(f"The configuration is in place; process {state.pid} goes on as it was.")

    # --- uninstall ---------------------------------------------------------------------------

    def stop(self):
        strays = processes.running_from(self.place.base)
        if not self.was.pid and not strays and not self.manager.is_known():
            self.say("It does not run.")
            return SKIPPED
        if self.dry:
            self.did("Would stop it.")
            return None
        self.is_touched = True
        self.manager.stop(self._patience())
        if self.was.pid:
            self.did(f"Stopped process {self.was.pid}.")
        self._end_strays()
        return None

    def _end_strays(self):
        """What was started from our folder by other means ends too."""
        for pid in processes.running_from(self.place.base):
            if not processes.end(pid, processes.started_at(pid), self.watch, self._patience()):
                raise Failure(
                    "task_failed",
                    f"Process {pid} ({processes.name_of(pid)}) runs from {self.place.base} and "
                    "does not end. End it on the host, then retry.",
                )
            self.did(f"Ended process {pid}, which ran from {self.place.base}.")

    def _patience(self):
        return float((self.manifest or {}).get("stop_timeout") or 10)

    def remove(self):
        is_mask = self.manager.is_mask()
        if self.manager.is_known() and not self.dry and not is_mask:
            self.is_defined = True
            self.manager.forget()
        if not is_mask and self.changes.unlink(self.manager.path):
            self.did("{} {}.".format("Would remove" if self.dry else "Removed", self.manager.path))
        if os.path.isdir(self.place.base):
            self.changes.set_aside(self.place.base)
            self.did("{} {}.".format("Would remove" if self.dry else "Removed", self.place.base))
        if self.is_defined:
            self.manager.define()
            self.manager.clear()
        self._withdraw()
        return None if self.phase["changed"] else SKIPPED

    def _withdraw(self):
        key = self.arguments.get("standing_key")
        if key and not self.dry and keys.withdraw(key, self._account(), self.place.root):
            self.did("Hostler's standing key may not log in any more.")
            self.result["standing_key"] = "removed"

    def _verify_removed(self):
        running = set(processes.running_from(self.place.base))
        if processes.is_alive(self.was.pid, self.was.start):
            running.add(self.was.pid)
        now = self.manager.state().pid
        if now:
            running.add(now)
        if running:
            numbers = ", ".join(map(str, sorted(running)))
            raise Failure("task_failed", f"It still runs as process {numbers}.")
        for path in (self.place.base, self.manager.path):
            if os.path.lexists(path) and not self.manager.is_mask():
                raise Failure("task_failed", f"{path} is still there.")
        if not self._has_changed():
            self.say(f"No {self.place.name} is installed; nothing was changed.")
            return SKIPPED
        self.say("Nothing of it is left.")
        return None

    # --- detect, release ---------------------------------------------------------------------

    def detect(self):
        release = self.before["release"]
        if not release:
            self.say(f"No {self.place.name} is installed.")
        else:
            self.say(
                "{} {} is installed; {}.".format(self.place.name, release["version"], self.was.how)
            )

    def release(self):
        place = Place(self.arguments["name"], self.arguments["setup_path"], _root())
        lock = Lock(lock_folder(place), self.arguments.get("token"), self.action, self.watch)
        released, holder = lock.release()
        self.result.update(released=released, holder=holder)
        self.say(holder)
        if not released:
            raise Failure("task_failed", holder)

    # --- afterwards --------------------------------------------------------------------------

    def _drop_old_releases(self):
        """The current release and the one before it stay; older ones go."""
        if not self.phase_of("switch")["changed"]:
            return
        kept = {os.path.basename(self.target)}
        if self.before["release"]:
            kept.add(os.path.basename(self.before["release"]["path"]))
        for name in _list(self.place.releases):
            if name not in kept:
                files.remove(os.path.join(self.place.releases, name))


def _checked_status(status):
    status = status or "ok"
    if status not in STATUSES:
        raise Failure("task_failed", f"{status!r} is no status of a phase.")
    return status


def _phases_of(action):
    if action not in PHASES:
        raise Failure(
            "task_failed",
            "There is no action {!r}; there are: {}.".format(action, ", ".join(PHASES)),
        )
    return PHASES[action]


def lock_folder(place):
    """Where the lock is: only root can make things in /run, so nobody else can hold it."""
    if place.root or os.geteuid() == 0:
        return place.root + "/run/hostler"
    return os.path.join(os.path.dirname(place.base), ".lock")


def _root():
    return os.environ.get("HOSTLER_ROOT", "").rstrip("/")


def _nearest(path):
    """The path itself, or what there is of it."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _list(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def _is_local(address):
    """Whether this host can listen on that address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except (OSError, UnicodeError):
        return False
    return True


def _below(folder, path):
    """A path the manifest names, which must stay in its folder."""
    if path.startswith("/") or ".." in path.split("/"):
        raise Failure("task_failed", f"The manifest names {path!r}, which leaves its folder.")
    return os.path.join(folder, path)


def _release_at(path):
    """What is known of the release in (or behind) this path."""
    real = os.path.realpath(path)
    if not os.path.isdir(real):
        return None
    try:
        release = dict(
            json.loads((files.read(os.path.join(real, ".hostler.json")) or b"").decode())
        )
        known = {key: str(release[key]) for key in ("name", "version", "sha256")}
        return dict(known, manifest=dict(release["manifest"]), path=real)
    except (OSError, ValueError, TypeError, KeyError):
        return None  # not as we write it: as good as none, and an install puts one in its place


def _digest_of(folder):
    """One checksum over every file below a folder; None when there is none."""
    names = sorted(
        os.path.relpath(os.path.join(where, name), folder)
        for where, _, names in os.walk(folder)
        for name in names
    )
    if not names:
        return None
    digest = hashlib.sha256()
    for name in names:
        try:
            content = files.read(os.path.join(folder, name)) or b""
        except OSError as error:  # what is no file of ours, or may not be read, counts by its name
            content = str(error.errno).encode()
        digest.update(b"%d %s %d " % (len(name), os.fsencode(name), len(content)))
        digest.update(content)
    return digest.hexdigest()


def _described(path):
    """A package that was sent along, described like one that is fetched."""
    digest = hashlib.sha256(files.read(path) or b"")
    manifest = archive.read_manifest(path)
    known = {key: manifest.get(key) for key in ("name", "version", "os", "cpu")}
    return dict(known, manifest=manifest, sha256=digest.hexdigest(), size=os.path.getsize(path))


def _fitting(candidates, name):
    """The candidate for this os and cpu."""
    here = CPUS.get(os.uname().machine, os.uname().machine)
    for package in candidates:
        cpu = CPUS.get(package["cpu"], package["cpu"])
        if cpu == here and str(package["os"]).upper() == os.uname().sysname.upper():
            return _checked(package)
    there = ", ".join(sorted({"{}/{}".format(item["os"], item["cpu"]) for item in candidates}))
    raise Failure(
        "no_package",
        "This host is {}/{}, and there is no {} package for that (there are: {}). Add one with: "
        "hostler package add".format(os.uname().sysname.upper(), here, name, there or "none"),
    )


def _checked(package):
    manifest = package.get("manifest") or {}
    if not VERSION.match(str(package["version"])) or not SHA256.match(str(package["sha256"])):
        raise Failure("no_package", "The package has no proper version and checksum.")
    if not manifest.get("exec"):
        raise Failure("no_package", "The package's manifest names no program to run.")
    return package


def _ask(host, port, path):
    """None when something answers there; an exception or a sentence when not."""
    if path is None:
        socket.create_connection((host, port), timeout=2).close()
        return None
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    finally:
        connection.close()
    return None if status < 400 else f"HTTP status {status}"


def last_lines(text):
    return services.last_lines(text)


def _os_version():
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            lines = file.read(MOST_OS_RELEASE).splitlines()
        names = dict(line.rstrip().partition("=")[::2] for line in lines)
    except OSError:
        return os.uname().release
    return names.get("PRETTY_NAME", "").strip('"')[:200] or os.uname().release
