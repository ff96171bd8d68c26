/* The guest's end of bare vsock connections: as little as can be between the host and the work. The first byte of a
 * connection says what it is for; everything else is raw. One connection is served after the other.
 *
 *   e        echo: each byte comes back
 *   x        execute: for each byte, fork, execve /bin/true, wait, and a byte back
 *   i BYTES  in: takes so many bytes (8, little-endian, say how many), then a byte back
 *   o BYTES  out: gives as many
 */
#define _GNU_SOURCE
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK (256 * 1024)

static char block[BLOCK];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Up to `length` bytes of the block, once. 0 is the end. */
static size_t once(ssize_t (*call)(int, void *, size_t), int fd, uint64_t length)
{
	ssize_t done = call(fd, block, length < BLOCK ? length : BLOCK);
	return done < 0 ? 0 : done;
}

static ssize_t give(int fd, void *bytes, size_t length)
{
	return write(fd, bytes, length);
}

static void move(ssize_t (*call)(int, void *, size_t), int fd, uint64_t left)
{
	while (left > 0) {
		size_t done = once(call, fd, left);
		if (done == 0)
			return;
		left -= done;
	}
}

static void execute(void)
{
	int status;
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	if (waitpid(child, &status, 0) != child || status != 0)
		die("/bin/true");
}

static void serve(int fd)
{
	char work, byte;
	uint64_t bytes = 0;
	if (read(fd, &work, 1) != 1)
		return;
	switch (work) {
	case 'e':
	case 'x':
		while (read(fd, &byte, 1) == 1) {
			if (work == 'x')
				execute();
			if (write(fd, &byte, 1) != 1)
				return;
		}
		return;
	case 'i':
	case 'o':
		if (recv(fd, &bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
			return;
		move(work == 'i' ? read : give, fd, bytes);
		if (work == 'i' && write(fd, &work, 1) != 1)
			return;
	}
}

int main(int count, char **arguments)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (count != 2)
		return 2;
	address.svm_port = strtoul(arguments[1], NULL, 10);
	if (listener < 0 || bind(listener, (void *)&address, sizeof address) || listen(listener, 16))
		die("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			die("accept");
		serve(fd);
		close(fd);
	}
}
