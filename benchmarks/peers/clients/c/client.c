// Round trips on bare epoll, the limit of what the Go clients can reach: a thread per CPU, each with an epoll and its share of the connections. A message is numbered, and
// its answer brings the next one.
//
//   client HOST PORT CONNECTIONS SIZE PER-ADDRESS
//
// After PER-ADDRESS connections it goes on with the address that follows HOST.
//
// It says on descriptor 3 that it is connected, carries out "start" and "stop" from its standard input, with a line for each, and ends with that. It counts messages
// in the page at descriptor 4, each thread in a cache line of its own.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 128, LINES = 4096 / 64 };

struct conn {
	int fd;
	uint64_t seq;
};

struct thread {
	int epoll, wake, count;
	struct conn *conns;
	_Atomic uint64_t *messages;
};

static size_t size;
static atomic_int stop;
static pthread_barrier_t ended;

static void must(int ok, const char *what) {
	if (!ok) {
		dprintf(3, "{\"error\":\"%s: %s\"}\n", what, strerror(errno));
		exit(1);
	}
}

// send_next sends the connection's next message. With one outstanding there is always room for it.
static void send_next(struct conn *c, char *buf) {
	c->seq++;
	memcpy(buf + 4, &c->seq, sizeof c->seq);
	must(write(c->fd, buf, size) == (ssize_t)size, "write");
}

// receive reads a connection's answer. A message of this size comes as a whole.
static void receive(struct conn *c, char *buf) {
	uint64_t seq;
	must(read(c->fd, buf, size) == (ssize_t)size, "read");
	memcpy(&seq, buf + 4, sizeof seq);
	must(seq == c->seq, "another message than the last one came back");
}

static void turn(struct thread *t, char *out, char *in) {
	struct epoll_event events[BATCH];
	for (int i = 0; i < t->count; i++)
		send_next(&t->conns[i], out);
	for (int outstanding = t->count; outstanding > 0;) {
		int n = epoll_wait(t->epoll, events, BATCH, -1);
		must(n >= 0 || errno == EINTR, "epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			receive(c, in);
			if (atomic_load_explicit(&stop, memory_order_relaxed))
				outstanding--;
			else
				send_next(c, out);
		}
		if (n > 0)
			atomic_fetch_add_explicit(t->messages, n, memory_order_relaxed);
	}
}

__attribute__((noreturn)) static void *run(void *arg) {
	struct thread *t = arg;
	char *out = calloc(1, size), *in = calloc(1, size);
	must(out != NULL && in != NULL, "calloc");
	uint32_t rest = htonl(size - 4);
	memcpy(out, &rest, sizeof rest);
	for (;;) {
		uint64_t begin;
		must(read(t->wake, &begin, sizeof begin) == sizeof begin, "eventfd");
		turn(t, out, in);
		pthread_barrier_wait(&ended);
	}
}

static int dial(struct sockaddr_in addr, int after) {
	addr.sin_addr.s_addr = htonl(ntohl(addr.sin_addr.s_addr) + after);
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(fd >= 0, "socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	must(connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0, "connect");
	return fd;
}

int main(int argc, char **argv) {
	must(argc == 6, "five arguments are needed");
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	must(inet_aton(argv[1], &addr.sin_addr), "address");
	int conns = atoi(argv[3]), per_address = atoi(argv[5]), dialled = 0;
	size = atoi(argv[4]);
	cpu_set_t cpus;
	must(sched_getaffinity(0, sizeof cpus, &cpus) == 0, "sched_getaffinity");
	int threads = CPU_COUNT(&cpus);
	if (threads > conns)
		threads = conns;
	if (threads > LINES)
		threads = LINES;
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 4, 0);
	must(page != MAP_FAILED, "mmap");
	struct thread *all = calloc(threads, sizeof *all);
	must(all != NULL && pthread_barrier_init(&ended, NULL, threads + 1) == 0, "calloc");
	for (int i = 0; i < threads; i++) {
		struct thread *t = &all[i];
		t->count = (i + 1) * conns / threads - i * conns / threads;
		t->conns = calloc(t->count, sizeof *t->conns);
		t->messages = (_Atomic uint64_t *)(page + 64 * i);
		must((t->epoll = epoll_create1(EPOLL_CLOEXEC)) >= 0 && (t->wake = eventfd(0, EFD_CLOEXEC)) >= 0, "epoll_create1");
		for (int k = 0; k < t->count; k++) {
			struct epoll_event event = {.events = EPOLLIN, .data.ptr = &t->conns[k]};
			t->conns[k].fd = dial(addr, dialled++ / per_address);
			must(epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->conns[k].fd, &event) == 0, "epoll_ctl");
		}
		pthread_t thread;
		must(pthread_create(&thread, NULL, run, t) == 0, "pthread_create");
	}
	char line[65536];
	must(fgets(line, sizeof line, stdin) != NULL, "configuration"); // It is in the arguments already.
	dprintf(3, "{}\n");
	while (fgets(line, sizeof line, stdin) != NULL) {
		uint64_t one = 1;
		if (strcmp(line, "start\n") == 0) {
			atomic_store(&stop, 0);
			for (int i = 0; i < threads; i++)
				must(write(all[i].wake, &one, sizeof one) == sizeof one, "eventfd");
		} else if (strcmp(line, "stop\n") == 0) {
			atomic_store(&stop, 1);
			pthread_barrier_wait(&ended);
		}
		dprintf(3, "{}\n");
	}
	return 0;
}
