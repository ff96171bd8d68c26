/* The floor: an init that does what guest-init does for one given boot, in one sequence, without a check, a log line or
 * a second thread. What it takes from its first instruction to the program's is what the kernel takes; whatever
 * guest-init takes beyond that is its own.
 *
 * The boot is compiled in:
 *   MODULES     kernel modules in load order, as string literals
 *   VOLUMES     {"device", "target"} pairs
 *   NETWORK     1 or 0
 *   AGENT_CONFIG  the agent's configuration up to its program_output, a string literal
 *   PROGRAM     the program's path
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <net/if.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
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

static void boot_spec(void)
{
    char text[16384];
    int file = open("/firstlight/boot.json", O_RDONLY | O_CLOEXEC);
    read(file, text, sizeof text);
    close(file);
    unlink("/firstlight/boot.json");
}

static void load_modules(void)
{
    for (size_t i = 0; modules[i]; i++) {
        int file = open(modules[i], O_RDONLY | O_CLOEXEC);
        syscall(SYS_finit_module, file, "", 0);
        close(file);
    }
}

static void switch_root(void)
{
    static const char *const moved[] = {"/dev", "/sys", "/run", "/proc"};
    mkdir("/firstlight/mnt", 0755);
    mkdir("/firstlight/mnt/lower", 0755);
    mkdir("/firstlight/mnt/upper", 0755);
    mkdir("/firstlight/mnt/root", 0755);
    mount("/dev/vda", "/firstlight/mnt/lower", "ext4", MS_RDONLY, NULL);
    mount("/dev/vdb", "/firstlight/mnt/upper", "ext4", 0, NULL);
    mkdir("/firstlight/mnt/upper/work", 0700);
    mkdir("/firstlight/mnt/upper/upper", 0755);
    mount("overlay", "/firstlight/mnt/root", "overlay", 0,
          "lowerdir=/firstlight/mnt/lower,upperdir=/firstlight/mnt/upper/upper,workdir=/firstlight/mnt/upper/work");
    for (size_t i = 0; i < sizeof moved / sizeof *moved; i++) {
        char target[64];
        snprintf(target, sizeof target, "/firstlight/mnt/root%s", moved[i]);
        mount(moved[i], target, NULL, MS_MOVE, NULL);
    }
    chdir("/firstlight/mnt/root");
    mount(".", "/", NULL, MS_MOVE, NULL);
    chroot(".");
    chdir("/");
}

static void mount_volumes(void)
{
    for (size_t i = 0; volumes[i][0]; i++) {
        mkdir(volumes[i][1], 0755);
        mount(volumes[i][0], volumes[i][1], "ext4", 0, NULL);
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
    read(netlink, answer, sizeof answer);
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
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
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

static void put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    write(file, text, strlen(text));
    close(file);
}

static void identity(void)
{
    sethostname("bench", 5);
    put("/etc/hostname", "bench\n");
    put("/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.2.15\tbench\n");
    if (NETWORK)
        put("/etc/resolv.conf", "nameserver 10.0.2.3\n");
}

static int cgroup(const char *path)
{
    mkdir(path, 0755);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void cgroups(void)
{
    put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
}

static int fork_into(int directory)
{
    struct clone_args arguments = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
                                   .cgroup = (unsigned long long)directory};
    return (int)syscall(SYS_clone3, &arguments, sizeof arguments);
}

/* Starts the agent and waits until it is ready. `output` gets the write ends of the program's pipes. */
static void agent(int executable, int output[2])
{
    int pipes[2][2], logs[2], ready[2];
    char config[1024], variables[2][64], line[64];
    for (int i = 0; i < 2; i++) {
        pipe(pipes[i]);
        fcntl(pipes[i][1], F_SETFD, FD_CLOEXEC);
        logs[i] = memfd_create("log", 0);
        output[i] = pipes[i][1];
    }
    pipe(ready);
    int file = memfd_create("agent-config", 0);
    int size = snprintf(config, sizeof config,
                        "%s\"program_output\":{\"stdout\":{\"pipe\":%d,\"log\":%d},\"stderr\":{\"pipe\":%d,\"log\":%d}}}",
                        AGENT_CONFIG, pipes[0][0], logs[0], pipes[1][0], logs[1]);
    write(file, config, (size_t)size);
    lseek(file, 0, SEEK_SET);
    snprintf(variables[0], sizeof variables[0], "FIRSTLIGHT_READY_FD=%d", ready[1]);
    snprintf(variables[1], sizeof variables[1], "FIRSTLIGHT_CONFIG_FD=%d", file);
    if (fork_into(cgroup("/sys/fs/cgroup/firstlight-agent")) == 0) {
        char *const argv[] = {"guest-agent", NULL};
        char *const environment[] = {"PATH=/bin", variables[0], variables[1], NULL};
        setsid();
        syscall(SYS_execveat, executable, "", argv, environment, AT_EMPTY_PATH);
    }
    close(ready[1]);
    read(ready[0], line, sizeof line);
}

int main(void)
{
    int output[2] = {1, 2};
    early_mounts();
    boot_spec();
    int executable = open("/firstlight/agent", O_RDONLY | O_CLOEXEC);
    load_modules();
    switch_root();
    mount_volumes();
    network();
    identity();
    cgroups();
    agent(executable, output);
    if (fork_into(cgroup("/sys/fs/cgroup/firstlight-program")) == 0) {
        char *const argv[] = {PROGRAM, NULL};
        char *const environment[] = {"PATH=/bin", NULL};
        setsid();
        dup2(output[0], 1);
        dup2(output[1], 2);
        execve(PROGRAM, argv, environment);
    }
    for (;;)
        pause();
}
