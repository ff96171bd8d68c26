/* The floor: an init that makes the system calls guest-init makes for one given boot, in one sequence, without a check, a
 * log line or a second thread. What it takes from its first instruction to the program's is what the kernel takes; whatever
 * guest-init takes beyond that is its own.
 *
 * Which calls these are can be seen with the kernel's own tracing: boot a VM with `trace_event=raw_syscalls:sys_enter` on
 * its command line, and read /sys/kernel/tracing/trace in it. Left out here are
 *   checks      the fault handlers, the pipe an execve that fails is told through, a file asked for its size
 *   reports     the event file, the console, the stream to the host
 *   threads     their stacks and ends, futexes, and waiting for one another
 *   leftovers   what the parent closes after a fork, and its turn of the scheduler's that it gives to the program
 *
 * The boot is compiled in:
 *   MODULES     kernel modules in load order, as string literals
 *   VOLUMES     {"serial", "target"} pairs
 *   NETWORK     1 or 0
 *   AGENT_CONFIG  the agent's configuration up to its program_output, a string literal
 *   PROGRAM     the program's path
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/openat2.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const modules[] = {MODULES, NULL};
static const char *const volumes[][2] = {VOLUMES {NULL, NULL}};

static void early_mounts(void)
{
    static const struct { const char *type, *target; unsigned long flags; const char *options; } mounts[] = {
        {"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, NULL},
        {"proc", "/proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL},
        {"sysfs", "/sys", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL},
        {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"},
        {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
        {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
        {"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NOEXEC | MS_NODEV, "nsdelegate"},
    };
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
        mkdir(mounts[i].target, 0755);
        mount(mounts[i].type, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].options);
    }
    symlink("/proc/self/fd", "/dev/fd");
    symlink("/proc/self/fd/0", "/dev/stdin");
    symlink("/proc/self/fd/1", "/dev/stdout");
    symlink("/proc/self/fd/2", "/dev/stderr");
    mkdir("/run/firstlight", 0700);
}

/* A file of the initramfs, to its end. */
static void take(const char *path)
{
    char text[16384];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    while (read(file, text, sizeof text) > 0)
        ;
    close(file);
}

/* sysfs, which moves with the root, and the initramfs. */
static int sys, initramfs;

/* Bytes of a file's name. */
enum { NAME = 256 };

/* The first word of an attribute of a device's. */
static void attribute(const char *path, char word[64])
{
    int file = openat(sys, path, O_RDONLY | O_CLOEXEC);
    ssize_t size = read(file, word, 63);
    close(file);
    word[size > 0 ? size : 0] = 0;
    word[strcspn(word, "\n")] = 0;
}

/* The first device of a class whose attribute has (or, for the loopback's address, has not) this value. guest-init looks for
 * the address of the spec, which this program, compiled for all boots of a scene, does not know. */
static void find(const char *class, const char *wanted, const char *value, int equal, char name[NAME])
{
    char path[2 * NAME], found[64];
    DIR *directory = fdopendir(openat(sys, class, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *entry;
    *name = 0;
    while (directory && (entry = readdir(directory))) {
        if (*entry->d_name == '.' || *name)
            continue;
        snprintf(path, sizeof path, "%s/%s/%s", class, entry->d_name, wanted);
        attribute(path, found);
        if ((strcmp(found, value) == 0) == equal)
            snprintf(name, NAME, "%s", entry->d_name);
    }
    if (directory)
        closedir(directory);
}

/* Mounts the disk with this serial. */
static void mount_disk(const char *serial, const char *target, unsigned long flags)
{
    char name[NAME], device[NAME + 8];
    find("block", "serial", serial, 1, name);
    snprintf(device, sizeof device, "/dev/%s", name);
    mount(device, target, "ext4", flags, NULL);
}

/* Opens a path of the image's as its own programs would. */
static int in_root(int root, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT,
                           .mode = flags & O_CREAT ? 0644 : 0};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

static void load_modules(void)
{
    for (size_t i = 0; modules[i]; i++) {
        int file = openat(initramfs, modules[i] + 1, O_RDONLY | O_CLOEXEC);
        syscall(SYS_finit_module, file, "", 0);
        close(file);
    }
}

static void switch_root(void)
{
    static const char *const moved[] = {"/dev", "/sys", "/run", "/proc"};
    enum { MOVED = sizeof moved / sizeof *moved };
    int root, targets[MOVED];
    struct stat like;
    mkdir("/firstlight/mnt", 0755);
    mkdir("/firstlight/mnt/lower", 0755);
    mount_disk("root", "/firstlight/mnt/lower", MS_RDONLY);
    mkdir("/firstlight/mnt/upper", 0755);
    mount_disk("upper", "/firstlight/mnt/upper", 0);
    mkdir("/firstlight/mnt/root", 0755);
    mkdir("/firstlight/mnt/upper/work", 0700);
    mkdir("/firstlight/mnt/upper/upper", 0700);
    stat("/firstlight/mnt/lower", &like);
    chown("/firstlight/mnt/upper/upper", like.st_uid, like.st_gid);
    chmod("/firstlight/mnt/upper/upper", like.st_mode & 07777);
    mount("overlay", "/firstlight/mnt/root", "overlay", 0,
          "lowerdir=/firstlight/mnt/lower,upperdir=/firstlight/mnt/upper/upper,workdir=/firstlight/mnt/upper/work");
    root = open("/firstlight/mnt/root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < MOVED; i++)
        targets[i] = in_root(root, moved[i], O_PATH | O_DIRECTORY);
    for (size_t i = 0; i < MOVED; i++) {
        move_mount(AT_FDCWD, moved[i], targets[i], "", MOVE_MOUNT_T_EMPTY_PATH);
        close(targets[i]);
    }
    chdir("/firstlight/mnt/root");
    mount(".", "/", NULL, MS_MOVE, NULL);
    chroot(".");
    chdir("/");
    close(root);
}

static void mount_volumes(void)
{
    for (size_t i = 0; volumes[i][0]; i++) {
        char place[64];
        int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        int target = in_root(root, volumes[i][1], O_PATH | O_DIRECTORY);
        if (target < 0) {
            int parent = in_root(root, "/", O_PATH | O_DIRECTORY);
            mkdirat(parent, volumes[i][1] + 1, 0755);
            target = in_root(root, volumes[i][1], O_PATH | O_DIRECTORY);
            close(parent);
        }
        snprintf(place, sizeof place, "/proc/self/fd/%d", target);
        mount_disk(volumes[i][0], place, 0);
        close(target);
        close(root);
    }
}

/* One rtnetlink request, and the kernel's answer. */
static void request(int netlink, int type, const void *header, size_t header_size, const struct rtattr *attributes[])
{
    struct { struct nlmsghdr head; char body[256]; } message = {0};
    char answer[1024];
    size_t size = header_size;
    memcpy(message.body, header, header_size);
    for (; *attributes; attributes++) {
        memcpy(message.body + size, *attributes, (*attributes)->rta_len);
        size += RTA_ALIGN((*attributes)->rta_len);
    }
    message.head.nlmsg_len = (unsigned)(sizeof message.head + size);
    message.head.nlmsg_type = (unsigned short)type;
    message.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    send(netlink, &message, message.head.nlmsg_len, 0);
    recv(netlink, answer, sizeof answer, MSG_DONTWAIT);
}

static void network(void)
{
    struct { struct rtattr head; unsigned value; } local = {{8, IFA_LOCAL}, inet_addr("10.0.2.15")},
        address = {{8, IFA_ADDRESS}, inet_addr("10.0.2.15")}, gateway = {{8, RTA_GATEWAY}, inet_addr("10.0.2.2")},
        out = {{8, RTA_OIF}, 2};
    const struct rtattr *none[] = {NULL};
    const struct rtattr *addresses[] = {&local.head, &address.head, NULL};
    const struct rtattr *routes[] = {&gateway.head, &out.head, NULL};
    struct ifaddrmsg interface = {.ifa_family = AF_INET, .ifa_prefixlen = 24, .ifa_index = 2};
    struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
                          .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
    char name[NAME], path[2 * NAME], index_of[64];
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (NETWORK) {
        find("class/net", "address", "00:00:00:00:00:00", 0, name);
        snprintf(path, sizeof path, "class/net/%s/ifindex", name);
        attribute(path, index_of);
    }
    for (int index = 1; index <= 1 + NETWORK; index++) {
        struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
        request(netlink, RTM_SETLINK, &link, sizeof link, none);
    }
    if (NETWORK) {
        request(netlink, RTM_NEWADDR, &interface, sizeof interface, addresses);
        request(netlink, RTM_NEWROUTE, &route, sizeof route, routes);
    }
    close(netlink);
}

static void put(int root, const char *path, const char *text)
{
    char link[64];
    int file;
    readlink(path, link, sizeof link);
    close(in_root(root, "/etc", O_PATH | O_DIRECTORY));
    file = in_root(root, path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK);
    write(file, text, strlen(text));
    close(file);
}

static void identity(void)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sethostname("bench", 5);
    close(in_root(root, "/etc/hosts", O_RDONLY | O_NONBLOCK));
    put(root, "/etc/hostname", "bench\n");
    put(root, "/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.2.15\tbench\n");
    if (NETWORK)
        put(root, "/etc/resolv.conf", "nameserver 10.0.2.3\n");
    close(root);
}

/* A cgroup below `top`, for one process. */
static int cgroup(int top, const char *name)
{
    mkdirat(top, name, 0755);
    return openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int cgroups(void)
{
    int top = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int file = openat(top, "cgroup.subtree_control", O_WRONLY | O_CLOEXEC);
    write(file, "+memory", 7);
    close(file);
    return top;
}

static int fork_into(int directory)
{
    struct clone_args arguments = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
                                   .cgroup = (unsigned long long)directory};
    return (int)syscall(SYS_clone3, &arguments, sizeof arguments);
}

/* What a child does before it becomes its program. */
static void prepare(const int stdio[3], const int *inherited, size_t count)
{
    sigset_t none;
    setsid();
    for (int number = 0; number < 3; number++)
        dup2(stdio[number], number);
    for (size_t i = 0; i < count; i++)
        fcntl(inherited[i], F_SETFD, 0);
    chdir("/");
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Starts the agent and waits until it is ready, as one who has to hear of signals too. `output` gets the write ends of the
 * program's pipes. */
static void agent(int executable, int directory, int signals, const int stdio[3], int output[2])
{
    int pipes[2][2], logs[2], ready[2];
    char config[1024], variables[2][64], line[64];
    for (int i = 0; i < 2; i++) {
        pipe2(pipes[i], O_CLOEXEC);
        logs[i] = memfd_create("log", MFD_CLOEXEC);
        output[i] = pipes[i][1];
    }
    int file = memfd_create("agent-config", MFD_CLOEXEC);
    int size = snprintf(config, sizeof config,
                        "%s\"program_output\":{\"stdout\":{\"pipe\":%d,\"log\":%d},\"stderr\":{\"pipe\":%d,\"log\":%d}}}",
                        AGENT_CONFIG, pipes[0][0], logs[0], pipes[1][0], logs[1]);
    write(file, config, (size_t)size);
    lseek(file, 0, SEEK_SET);
    pipe2(ready, O_CLOEXEC);
    snprintf(variables[0], sizeof variables[0], "FIRSTLIGHT_READY_FD=%d", ready[1]);
    snprintf(variables[1], sizeof variables[1], "FIRSTLIGHT_CONFIG_FD=%d", file);
    if (fork_into(directory) == 0) {
        char *const argv[] = {"guest-agent", NULL};
        char *const environment[] = {"PATH=/bin", variables[0], variables[1], NULL};
        const int inherited[] = {ready[1], file, pipes[0][0], logs[0], pipes[1][0], logs[1]};
        prepare(stdio, inherited, sizeof inherited / sizeof *inherited);
        syscall(SYS_execveat, executable, "", argv, environment, AT_EMPTY_PATH);
    }
    close(ready[1]);
    struct pollfd events[] = {{signals, POLLIN, 0}, {ready[0], POLLIN, 0}};
    ppoll(events, 2, &(struct timespec){10, 0}, NULL);
    read(ready[0], line, sizeof line);
    close(ready[0]);
}

int main(void)
{
    int output[2];
    sigset_t all;
    sigfillset(&all);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &all, NULL);
    early_mounts();
    initramfs = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sys = open("/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    take("/firstlight/modules/manifest");
    take("/firstlight/boot.json");
    unlink("/firstlight/boot.json");
    int executable = openat(initramfs, "firstlight/agent", O_RDONLY | O_CLOEXEC);
    int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int top = cgroups();
    int agents = cgroup(top, "firstlight-agent"), programs = cgroup(top, "firstlight-program");
    load_modules();
    switch_root();
    mount_volumes();
    network();
    identity();
    agent(executable, agents, signals, (int[]){null, 1, 2}, output);
    if (fork_into(programs) == 0) {
        char *const argv[] = {PROGRAM, NULL};
        char *const environment[] = {"PATH=/bin", NULL};
        prepare((int[]){null, output[0], output[1]}, NULL, 0);
        execve(PROGRAM, argv, environment);
    }
    for (;;)
        pause();
}
