/* A launch of a PTX function on emulated memory. Every thread has its own program counter and
 * runs until it meets the others: at a barrier, or at an instruction of the whole warp. On the
 * way everything is checked that a GPU would leave undefined:
 *
 *   - an access outside allocations, shared memory, parameters or the local frame, or not
 *     aligned to its size
 *   - shared memory that is read before it is written, or while an asynchronous copy to it is
 *     under way; two threads at the same bytes of it, one writing, without a barrier of the
 *     block, or of the warp, in between
 *   - a warp instruction or a barrier that not all of its threads reach, or that they reach at
 *     different places */
#ifndef KVBUDGET_TESTS_PTX_RUN_H
#define KVBUDGET_TESTS_PTX_RUN_H

#include "tests/ptx/program.h"

enum { THREADS_MAX = 1024, FRAMES_MAX = 3 };
enum thread_state { THREAD_RUNS, THREAD_AT_WARP, THREAD_AT_BARRIER, THREAD_DONE };

/* Generic addresses: those of device memory are the host's own. */
#define SHARED_WINDOW (UINT64_C(1) << 60)
#define LOCAL_WINDOW (UINT64_C(2) << 60)
#define PARAM_WINDOW (UINT64_C(3) << 60)
#define WINDOW_MASK (UINT64_C(15) << 60)

struct heap { /* device memory, in order of address */
    struct range {
        uint64_t at, bytes;
    } * ranges;
    uint32_t n, room, last;
};

struct touched { /* a byte of shared memory: who wrote and who read it last */
    uint32_t write_epoch, write_warp_epoch, read_epoch, read_warp_epoch;
    uint32_t together;       /* lanes of the writer's warp that wrote the same at that time */
    uint16_t writer, reader; /* 1 + thread; 0: nobody */
    bool warps, lanes; /* other warps, other lanes of the reader's read it at that time too */
    uint8_t state;     /* TOUCHED_* */
};
enum { TOUCHED_NEVER, TOUCHED_WRITTEN, TOUCHED_ARRIVING };

struct frame {
    struct function *f;
    uint64_t *r;
    uint8_t *params;
    uint32_t pc;
};

struct arriving { /* an asynchronous copy: `real` bytes of so many, zeros after them */
    uint64_t to, from;
    uint32_t bytes, real, group;
};

struct thread {
    struct block *b;
    uint32_t id, depth;
    enum thread_state state;
    struct frame frames[FRAMES_MAX];
    uint64_t *registers;
    uint8_t *params, *local;
    struct arriving *copies;
    uint32_t n_copies, copies_room, group;
};

struct block {
    struct program *program;
    struct heap *heap;
    uint32_t at[3], grid[3], n_threads, epoch;
    uint32_t warp_epoch[THREADS_MAX / 32];
    uint8_t *shared;
    struct touched *touched;
    uint32_t shared_bytes;
    const uint8_t *args;
    struct thread *threads;
    bool faulted;
    char fault[400];
};

struct launch {
    struct program *program;
    struct function *f;
    struct heap *heap;
    uint32_t grid[3], n_threads, shared_bytes;
    const void *args;
};

/* False: what went wrong is on stderr, with the line of the source. */
bool launch_run(const struct launch *l);

/* --- between the parts --- */
void block_fault(struct thread *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool heap_has(struct heap *h, uint64_t at, uint64_t bytes);

/* Memory. False: a fault. */
bool memory_read(struct thread *t, enum word space, uint64_t at, void *to, uint32_t bytes);
bool memory_write(struct thread *t, enum word space, uint64_t at, const void *from,
                  uint32_t bytes);
uint32_t memory_add(struct thread *t, enum word space, uint64_t at, uint32_t x);
void memory_copy_asked(struct thread *t, const struct arriving *c);
void memory_copies_arrive(struct thread *t, uint32_t pending);

/* What `i` gives from its operands' values. */
uint64_t value_of(const struct insn *i, const uint64_t *x);
float float_of(uint64_t bits);
uint64_t bits_of(float x);
float half_of(uint64_t h);

/* Runs the warp's instruction that its threads wait at. */
void warp_run(struct thread *lanes, const struct insn *i);

static inline struct frame *frame_of(struct thread *t)
{
    return &t->frames[t->depth];
}

#endif
