// The peer of nop.ts: the same NOP loop with liburing's inline functions, built as a library.

#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct io_uring ring;
static unsigned long sum;

int nop_open(unsigned entries, unsigned cq_entries, unsigned flags)
{
	struct io_uring_params params;
	int result;

	memset(&params, 0, sizeof(params));
	params.flags = flags | IORING_SETUP_CQSIZE;
	params.cq_entries = cq_entries;
	result = io_uring_queue_init_params(entries, &ring, &params);
	if (result < 0)
		return result;
	result = io_uring_register_ring_fd(&ring);
	return result < 0 ? result : 0;
}

void nop_close(void)
{
	io_uring_queue_exit(&ring);
}

/* Nanoseconds for `batches` times `batch` NOPs; aborts if one is lost. */
double nop_run(unsigned batches, unsigned batch)
{
	struct timespec begin, end;
	unsigned done = 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (unsigned b = 0; b < batches; b++) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;

		for (unsigned n = 0; n < batch; n++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

			io_uring_prep_nop(sqe);
			sqe->user_data = n;
		}
		if (io_uring_submit_and_wait(&ring, batch) < 0)
			abort();
		io_uring_for_each_cqe(&ring, head, cqe) {
			sum += cqe->user_data + cqe->res;
			seen++;
		}
		io_uring_cq_advance(&ring, seen);
		done += seen;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (done != batches * batch)
		abort();
	return (end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec);
}
