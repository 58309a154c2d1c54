// An echo server on bare epoll, the limit of what the Go servers can reach: a thread per CPU, each with an epoll of its own. One more accepts and
// deals the connections out in turn, as SO_REUSEPORT would spread few of them unevenly.
// It tells the port that it got in a line of JSON on descriptor 3, and ends when its standard input does.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 128, ROOM = 64 * 1024 };

static void must(int ok, const char *what) {
	if (!ok) {
		perror(what);
		exit(1);
	}
}

// write_all waits for a peer that reads slowly: with one request outstanding on each connection the socket's buffer has room, so this never matters.
static int write_all(int fd, const char *p, ssize_t n) {
	while (n > 0) {
		ssize_t w = write(fd, p, n);
		if (w < 0 && errno == EAGAIN) {
			struct pollfd room = {.fd = fd, .events = POLLOUT};
			poll(&room, 1, -1);
			continue;
		}
		if (w < 0)
			return -1;
		p += w;
		n -= w;
	}
	return 0;
}

__attribute__((noreturn)) static void *serve(void *arg) {
	int ep = (int)(long)arg;
	struct epoll_event events[BATCH];
	char *buf = malloc(ROOM);
	must(buf != NULL, "malloc");
	for (;;) {
		int n = epoll_wait(ep, events, BATCH, -1);
		must(n >= 0 || errno == EINTR, "epoll_wait");
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			ssize_t r = read(fd, buf, ROOM);
			if (r < 0 && errno == EAGAIN)
				continue;
			if (r <= 0 || write_all(fd, buf, r) < 0)
				close(fd);
		}
	}
}

__attribute__((noreturn)) static void *accept_loop(void *arg) {
	int listener = (int)(long)arg;
	cpu_set_t cpus;
	must(sched_getaffinity(0, sizeof cpus, &cpus) == 0, "sched_getaffinity");
	int threads = CPU_COUNT(&cpus), on = 1;
	int *epolls = calloc(threads, sizeof *epolls);
	must(epolls != NULL, "calloc");
	for (int i = 0; i < threads; i++) {
		pthread_t thread;
		must((epolls[i] = epoll_create1(EPOLL_CLOEXEC)) >= 0, "epoll_create1");
		must(pthread_create(&thread, NULL, serve, (void *)(long)epolls[i]) == 0, "pthread_create");
	}
	for (int next = 0;; next = (next + 1) % threads) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		must(fd >= 0, "accept4");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
		must(epoll_ctl(epolls[next], EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
	}
}

int main(void) {
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof addr;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(listener >= 0, "socket");
	must(bind(listener, (struct sockaddr *)&addr, sizeof addr) == 0, "bind");
	must(listen(listener, 4096) == 0, "listen");
	must(getsockname(listener, (struct sockaddr *)&addr, &size) == 0, "getsockname");
	pthread_t thread;
	must(pthread_create(&thread, NULL, accept_loop, (void *)(long)listener) == 0, "pthread_create");
	dprintf(3, "{\"addr\":\"127.0.0.1:%d\"}\n", ntohs(addr.sin_port));
	char c[64];
	while (read(0, c, sizeof c) > 0)
		;
	return 0;
}
