/*
 * What a threaded program asks of glibc and of its kernel: threads that have been there for long and threads that come, random
 * numbers and the processor's number in each, a child, a timer, clocks. It answers every line on TCP with "ok", or with what is
 * not as it should be.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7071, THREADS = 4, PATIENCE = 20 };

static atomic_long beats[THREADS];
static atomic_long rings;
static atomic_int broken;

/* An ordinary bit of work; false where the kernel or glibc does not do it any more. */
static int work(void)
{
	unsigned char random[32], zero[32] = {0};

	if (getrandom(random, sizeof random, 0) != sizeof random || !memcmp(random, zero, sizeof zero))
		return 0;
	return sched_getcpu() >= 0;
}

static void *beat(void *number)
{
	for (;;) {
		if (!work())
			atomic_store(&broken, 1);
		atomic_fetch_add(&beats[(long)number], 1);
		usleep(1000);
	}
	return NULL;
}

static void *once(void *result)
{
	*(int *)result = work();
	return NULL;
}

static void ring(int signal)
{
	(void)signal;
	atomic_fetch_add(&rings, 1);
}

static const char *goes_on(void)
{
	long before[THREADS], rung = atomic_load(&rings);

	for (int i = 0; i < THREADS; i++)
		before[i] = atomic_load(&beats[i]);
	for (int n = 0; n < PATIENCE * 100; n++) {
		int all = atomic_load(&rings) > rung + 1;

		for (int i = 0; i < THREADS; i++)
			all = all && atomic_load(&beats[i]) > before[i] + 1;
		if (all)
			return atomic_load(&broken) ? "a thread was refused random numbers or its processor" : NULL;
		usleep(10000);
	}
	return "a thread or the timer stands still";
}

static const char *new_thread(void)
{
	pthread_t thread;
	int result = 0;

	if (pthread_create(&thread, NULL, once, &result) || pthread_join(thread, NULL))
		return "no thread can be made";
	return result ? NULL : "a new thread was refused random numbers or its processor";
}

static const char *new_child(void)
{
	unsigned char mine[16], its[16];
	int ends[2], status;
	pid_t child;

	if (pipe(ends))
		return "no pipe can be made";
	child = fork();
	if (child < 0)
		return "no child can be made";
	if (child == 0) {
		if (getrandom(its, sizeof its, 0) != sizeof its || write(ends[1], its, sizeof its) != sizeof its)
			_exit(1);
		_exit(0);
	}
	if (getrandom(mine, sizeof mine, 0) != sizeof mine || read(ends[0], its, sizeof its) != sizeof its)
		return "no random numbers beside a child";
	close(ends[0]);
	close(ends[1]);
	if (waitpid(child, &status, 0) != child || status)
		return "a child failed";
	return memcmp(mine, its, sizeof its) ? NULL : "a child draws the numbers of its parent";
}

static const char *clocks(void)
{
	static struct timespec last[2];
	static const clockid_t which[2] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};

	for (int i = 0; i < 2; i++) {
		struct timespec now;

		clock_gettime(which[i], &now);
		if (now.tv_sec < last[i].tv_sec || (now.tv_sec == last[i].tv_sec && now.tv_nsec < last[i].tv_nsec))
			return i ? "CLOCK_BOOTTIME went back" : "CLOCK_MONOTONIC went back";
		last[i] = now;
	}
	return NULL;
}

static const char *check(void)
{
	const char *(*all[])(void) = {goes_on, new_thread, new_child, clocks};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		const char *wrong = all[i]();

		if (wrong)
			return wrong;
	}
	return "ok";
}

static void *answer(void *connection)
{
	FILE *in = fdopen((int)(long)connection, "r");
	char line[64];

	while (in && fgets(line, sizeof line, in))
		dprintf(fileno(in), "%s\n", check());
	if (in)
		fclose(in);
	return NULL;
}

static void start_timer(void)
{
	struct sigaction action = {.sa_handler = ring, .sa_flags = SA_RESTART};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	struct itimerspec every = {{0, 20000000}, {0, 20000000}};
	timer_t timer;

	sigaction(SIGRTMIN, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &every, NULL))
		exit(1);
}

int main(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	start_timer();
	for (long i = 0; i < THREADS; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, beat, (void *)i))
			return 1;
	}
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8))
		return 1;
	for (;;) {
		int connection = accept(listener, NULL, NULL);
		pthread_t thread;

		if (connection < 0 && errno != EINTR)
			return 1;
		if (connection >= 0 && !pthread_create(&thread, NULL, answer, (void *)(long)connection))
			pthread_detach(thread);
	}
}
