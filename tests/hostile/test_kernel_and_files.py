"""Red team, kernel and files: what the kernel refuses to a sandbox, and what of the host is there to be read.

The numbers are those of the red team's list; a letter is a variation of ours. One run probes a whole table.
"""

from __future__ import annotations

import re

import pytest
from attacks import Ending, attack, runtime_of
from served import Json, Served

pytestmark = pytest.mark.docker

# Each as "number on x86-64 (and on arm64), arguments"; `b` is room for whatever a call reads or writes.
SYSCALLS = r"""
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
arm = os.uname().machine == 'aarch64'
b = ctypes.create_string_buffer(512)
def call(x86, arm64, *arguments):
    number = arm64 if arm else x86
    if number is None:
        return 'EPERM'
    ctypes.set_errno(0)
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if libc.syscall(ctypes.c_long(number), *given) >= 0:
        return 'done'
    return errno.errorcode.get(ctypes.get_errno(), 'unknown')
table = {
    '8 ptrace of the supervisor': (101, 117, 16, 1, 0, 0),
    '8a process_vm_readv of the supervisor': (310, 270, 1, b, 0, b, 0, 0),
    '8b pidfd_getfd': (438, 438, 0, 0, 0),
    '8c prlimit on the supervisor': (302, 261, 1, 4, b, 0),
    '8d priority of the supervisor': (141, 140, 0, 1, 19),
    '8e affinity of the supervisor': (203, 122, 1, 8, b'\1' * 8),
    '8f scheduling class of the supervisor': (144, 119, 1, 5, b),
    '8g pages of the supervisor': (256, 238, 1, 8, 0, 0),
    '60 mount': (165, 40, b'none', b'/tmp', b'tmpfs', 0, 0),
    '60a bind mount': (165, 40, b'/tmp', b'/opt', 0, 4096, 0),
    '60b a remount of the root': (165, 40, 0, b'/', 0, 32, 0),
    '60c umount': (166, 39, b'/tmp', 2),
    '60d pivot_root': (155, 41, b'/tmp', b'/tmp'),
    '60e chroot': (161, 51, b'/tmp'),
    '60f fsopen': (430, 430, b'tmpfs', 0),
    '60g open_tree': (428, 428, -100, b'/', 1),
    '60h move_mount': (429, 429, -100, b'/tmp', -100, b'/', 0),
    '60i mount_setattr': (442, 442, -100, b'/', 0, b, 32),
    '61 unshare of the user namespace': (272, 97, 0x10000000),
    '61a unshare of the network': (272, 97, 0x40000000),
    '61b setns': (308, 268, 0, 0),
    '61c clone into a user namespace': (56, 220, 0x10000000 | 17, 0, 0, 0, 0),
    '61d clone3': (435, 435, b, 88),
    '62 io_uring_setup': (425, 425, 8, b),
    '62a io_uring_enter': (426, 426, 0, 1, 0, 0, 0, 0),
    '62b io_uring_register': (427, 427, 0, 0, 0, 0),
    '63 bpf': (321, 280, 0, b, 120),
    '63a perf_event_open': (298, 241, b, 0, -1, -1, 0),
    '63b userfaultfd': (323, 282, 0),
    '63c seccomp': (317, 277, 1, 0, b),
    '63d keyctl': (250, 219, 0, -3, 1),
    '63e add_key': (248, 217, b'user', b'x', b'y', 1, -3),
    '63f request_key': (249, 218, b'user', b'x', 0, -3),
    '63g memfd_create': (319, 279, b'x', 0),
    '63h memfd_secret': (447, 447, 0),
    '63i kcmp': (312, 272, 1, 1, 0, 0, 0),
    '63j process_madvise': (440, 440, 0, 0, 0, 0, 0),
    '63k fanotify_init': (300, 262, 0, 0),
    '63l shmget': (29, 194, 0, 4096, 0o1600),
    '63m semget': (64, 190, 0, 1, 0o1600),
    '63n msgget': (68, 186, 0, 0o1600),
    '63o mq_open': (240, 180, b'x', 0o102, 0o600, 0),
    '63p vmsplice': (278, 75, 1, 0, 0, 0),
    '63q inotify_init1': (294, 26, 0),
    '64 init_module': (175, 105, b, 0, b''),
    '64a finit_module': (313, 273, 0, b'', 0),
    '64b kexec_load': (246, 104, 0, 0, 0, 0),
    '64c reboot': (169, 142, 0xFEE1DEAD, 672274793, 0, 0),
    '64d swapon': (167, 224, b'/tmp', 0),
    '64e acct': (163, 89, 0),
    '64f syslog': (103, 116, 10, 0, 0),
    '64g iopl': (172, None, 3),
    '64h ioperm': (173, None, 0, 1, 1),
    '64i modify_ldt': (154, None, 0, b, 8),
    '64j sethostname': (170, 161, b'x', 1),
    '65 personality without address randomisation': (135, 92, 0x0040000),
    '65a personality that reads implies executes': (135, 92, 0x0400000),
    '66 settimeofday': (164, 170, b, 0),
    '66a clock_settime': (227, 112, 0, b),
    '66b adjtimex': (159, 171, b'\1' * 512),
    '68 setuid': (105, 146, 0),
    '68a setgid': (106, 144, 0),
    '68b setgroups': (116, 159, 1, b),
    '68c capset': (126, 91, b'\x22\x05\x08\x20\0\0\0\0', b'\xff' * 24),
    '72 a character device': (259, 33, -100, b'/tmp/c', 0o20666, 0x103),
    '72a a block device': (259, 33, -100, b'/tmp/d', 0o60666, 0xfe00),
    '72b open_by_handle_at': (304, 265, -100, b, 0),
    '72c name_to_handle_at': (303, 264, -100, b'/', b, b, 0),
}
said = {}
for name, arguments in table.items():
    said[name] = call(*arguments)
    if name.startswith('61c') and said[name] == 'done' and os.getpid() != mine:
        os._exit(0)
families = set()
for family in range(46):
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(family, kind).close()
            families.add(f'{family}/{kind}')
        except OSError:
            pass
state.set('said', said)
state.set('families', sorted(families))
""".replace("said = {}", "said, mine = {}, os.getpid()", 1)

FILES = r"""
import os, resource, stat, subprocess
def attempt(action):
    try:
        return action()
    except OSError as error:
        return error.strerror or 'refused'
def opened(path, flags):
    def action():
        os.close(os.open(path, flags))
        return 'open'
    return attempt(action)
def written(path, text):
    def action():
        with open(path, 'w') as file:
            file.write(text)
        return 'written'
    return attempt(action)
writable, gaining, devices = [], [], []
for root, folders, files in os.walk('/'):
    if root == '/':
        folders.remove('proc')
    for name in folders + files:
        path = os.path.join(root, name)
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            gaining.append(path)
        if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
            devices.append(path)
        elif not stat.S_ISLNK(mode) and os.access(path, os.W_OK):
            writable.append(path)
def ids():
    lines = open('/proc/self/status').read().splitlines()
    return {line.split(':')[0]: line.split()[1:] for line in lines if line[:3] in ('Uid', 'Gid', 'Cap', 'NoN', 'Sec')}
kernel = [os.path.join(root, name) for root, _, names in os.walk('/proc/sys') for name in names]
state.update({
    'writable': writable, 'gaining': gaining, 'devices': devices, 'ids': ids(),
    'kernel': [path for path in kernel if opened(path, os.O_WRONLY) == 'open'],
    'writes': {path: written(path, text) for path, text in {
        '/etc/passwd': 'x', '/opt/sandgraph/x': 'x', '/usr/lib/x': 'x', '/x': 'x',
        '/proc/sys/kernel/core_pattern': '|/tmp/x', '/proc/sysrq-trigger': 'c', '/proc/self/uid_map': '0 0 1',
        '/proc/self/oom_score_adj': '-1000', '/proc/1/oom_score_adj': '1000', '/proc/1/comm': 'x',
        '/proc/1/coredump_filter': '1', '/proc/1/attr/exec': 'x', '/sys/kernel/uevent_helper': '/tmp/x',
        '/sys/fs/cgroup/memory/memory.limit_in_bytes': '-1', '/sys/fs/cgroup/memory.max': 'max',
        '/sys/fs/cgroup/pids/pids.max': 'max', '/sys/fs/cgroup/pids.max': 'max',
        '/sys/fs/cgroup/cgroup.procs': '1', '/sys/fs/cgroup/release_agent': '/tmp/x',
    }.items()},
    'reads': {path: opened(path, os.O_RDONLY) for path in (
        '/proc/kcore', '/proc/kmem', '/dev/mem', '/dev/kmsg', '/dev/fuse', '/dev/kvm', '/dev/vhost-vsock',
        '/dev/net/tun', '/dev/loop-control', '/proc/1/mem', '/proc/1/environ', '/proc/1/maps', '/proc/1/auxv',
        '/proc/1/stack', '/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock',
    )},
    'descriptors': {fd: attempt(lambda: os.readlink('/proc/self/fd/' + fd)) for fd in os.listdir('/proc/self/fd')},
    'environ': open('/proc/self/environ').read().split('\0') + [f'{k}={v}' for k, v in os.environ.items()],
    'mounts': open('/proc/self/mountinfo').read().splitlines(),
    'processes': [open(f'/proc/{pid}/cmdline').read() for pid in os.listdir('/proc') if pid.isdigit()],
    'symbols': sorted({line.split()[0] for line in open('/proc/kallsyms')}) if os.path.exists('/proc/kallsyms') else [],
})
raised = {}
for name in ('NOFILE', 'FSIZE', 'CORE', 'MSGQUEUE'):
    try:
        resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (1 << 40, 1 << 40))
        raised[name] = 'raised'
    except (OSError, ValueError):
        raised[name] = 'refused'
state.set('raised', raised)
program = '/tmp/program'
with open('/bin/true', 'rb') as source, open(program, 'wb') as copy:
    copy.write(source.read())
os.chmod(program, 0o4777)
state.set('program', attempt(lambda: subprocess.run([program]).returncode))
"""


@pytest.fixture(scope="module")
def calls(attacked: Served) -> Json:
    ending = attack(attacked, SYSCALLS, timeout_s=20)
    assert ending.status == "succeeded", ending.run["error"]
    return ending.data


@pytest.fixture(scope="module")
def files(served: Served) -> Json:
    ending = attack(served, FILES, timeout_s=20, memory_mb=128)
    assert ending.status == "succeeded", ending.run["error"]
    return ending.data


#: What gVisor's own kernel does for the one sandbox whose kernel it is; the profile filters the host's.
OF_GVISOR = re.compile(r"8[c-e]|61[ab]?|62|63[glmnoq]|64f|68c|72a? ")


def test_8_and_60_to_72_the_kernel_refuses(attacked: Served, calls: Json) -> None:
    if runtime_of(attacked) == "runc":
        expected = dict.fromkeys(calls["said"], "EPERM") | {"61d clone3": "ENOSYS"}
        assert {name: said for name, said in calls["said"].items() if said != expected[name]} == {}
    else:
        done = {name for name, said in calls["said"].items() if said == "done"}
        assert {name for name in done if not OF_GVISOR.match(name)} == set()


def test_61_to_63_sockets_are_local_or_of_the_internet(attacked: Served, calls: Json) -> None:
    # AF_UNIX, AF_INET and AF_INET6 as streams and datagrams; no raw, packet, vsock or AF_ALG ones.
    allowed = {"1/1", "1/2", "1/3", "1/5", "2/1", "2/2", "10/1", "10/2"}
    if runtime_of(attacked) != "runc":
        # Netlink and packets of gVisor's own network, which has one interface: lo.
        allowed |= {"16/2", "16/3", "17/2", "17/3"}
    assert set(calls["families"]) <= allowed


def test_65_the_32_bit_interfaces_are_closed(served: Served) -> None:
    # Its calls have other numbers, of which the profile knows none: the kernel ends the process.
    ending = attack(served, "import ctypes\nctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))")
    assert (ending.status, ending.attempt["usage"]["signal"]) == ("killed", 31)


def test_68_setuid_programs_gain_nothing(files: Json) -> None:
    assert files["ids"]["NoNewPrivs"] == ["1"]
    assert files["ids"]["Seccomp"] == ["2"]
    assert {value for name, (value, *_) in files["ids"].items() if name.startswith("Cap")} == {"0" * 16}
    assert files["ids"]["Uid"] == files["ids"]["Gid"] == ["65534"] * 4
    # Not even one of its own making runs.
    assert files["program"] == "Permission denied"


def test_69_nothing_but_its_tmpfs_is_writable(files: Json) -> None:
    assert set(files["writable"]) == {"/tmp", "/dev/shm", "/dev/mqueue"}
    assert [path for path, said in files["writes"].items() if said == "written"] == []
    assert set(files["devices"]) <= {
        *(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "console")),
        "/dev/pts/ptmx",
        "/dev/ptmx",
    }


def test_70_no_setting_of_the_kernel_is_writable(files: Json) -> None:
    assert files["kernel"] == []
    assert set(files["raised"].values()) == {"refused"}


def test_71_nothing_of_the_host_or_the_supervisor_is_there_to_be_read(files: Json) -> None:
    assert [path for path, said in files["reads"].items() if said == "open"] == []
    assert {name.partition("=")[0] for name in files["environ"]} <= {"", "PATH", "HOSTNAME", "HOME", "LC_CTYPE"}
    assert "HOSTNAME=sandbox" in files["environ"]
    # Nobody bound anything of the host's but what the engine itself brings along.
    binds = [line.split()[4] for line in files["mounts"] if re.search(r" - (ext4|xfs|btrfs|zfs) ", line)]
    assert set(binds) <= {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
    assert not [line for line in files["mounts"] if "sock" in line.split(" - ")[0]]
    # Null, its two outputs, its outcome, and the folder being listed.
    kinds = sorted(target.partition(":")[0] for target in files["descriptors"].values())
    assert kinds[:1] == ["/dev/null"]
    assert kinds.count("pipe") == 3
    assert len(kinds) <= 5
    # The supervisor, and itself.
    assert len(files["processes"]) == 2
    assert files["symbols"] in ([], ["0" * 16])


def test_72_what_the_host_reads_are_never_files(served: Served) -> None:
    code = (
        "import os\nos.symlink('/etc/shadow', '/tmp/link')\nos.link('/tmp/link', '/tmp/hard')\nos.mkfifo('/tmp/fifo')\n"
        "state.set('link', '/tmp/link')\nstate.set('file', {'$ref': 'file:///etc/passwd', 'path': '../../etc/passwd'})"
    )
    ending = attack(served, code)
    assert ending.data == {
        "link": "/tmp/link",
        "file": {"$ref": "file:///etc/passwd", "path": "../../etc/passwd"},
    }


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/b", "..", "x\u0000y", "con:", "a" * 129, "__import__('os')"]
)
def test_73_names_are_never_paths(served: Served, name: str) -> None:
    for route in ("/nodes/register", "/tools/register"):
        answer = served.client.post(route, json={"name": name, "code": "def f(state): pass"})
        assert answer.status_code == 422, answer.text
    for route in ("/graph/status/", "/graph/state/", "/graph/"):
        escaped = "".join(f"%{byte:02X}" for byte in name.encode())
        answer = served.client.get(route + escaped)
        assert answer.status_code in {404, 405}, answer.text


def test_71a_a_traceback_shows_the_submission_and_nothing_of_the_runner(served: Served) -> None:
    ending: Ending = attack(served, "state.set('x', {}['no'])")
    text = ending.attempt["error"]["traceback"]
    assert "<attack>" in text
    assert "/opt/sandgraph" not in text
    assert "sandgraph_runner" not in text
