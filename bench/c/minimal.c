/* The least an init can do: mount three file systems and become the program. */
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
    char *const argv[] = {PROGRAM, NULL};
    char *const environment[] = {NULL};
    mkdir("/dev", 0755);
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    execve(PROGRAM, argv, environment);
    return 1;
}
