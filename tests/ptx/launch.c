/* Runs the blocks of a launch one after the other: run.h. Within a block, threads go one by one
 * until each waits; then whoever is complete goes on. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/run.h"

enum { PARAM_ROOM = 4096, WARP = 32 };

void block_fault(struct thread *t, const char *fmt, ...)
{
    struct block *b = t->b;
    struct frame *f = frame_of(t);
    const struct insn *i = &f->f->code[f->pc];
    int n;
    va_list list;

    if (b->faulted)
        return;
    b->faulted = true;
    n = snprintf(b->fault, sizeof b->fault,
                 "%s, block %u %u %u, thread %u, %s:%u: ", t->frames[0].f->name, b->at[0],
                 b->at[1], b->at[2], t->id, b->program->files[i->file % 32], i->line);
    va_start(list, fmt);
    vsnprintf(b->fault + n, sizeof b->fault - (size_t)n, fmt, list);
    va_end(list);
}

static uint64_t special_of(const struct thread *t, uint8_t s)
{
    const struct block *b = t->b;
    uint32_t axis = (s - 1u) % 3;

    if (s < SPECIAL_NTID)
        return axis ? 0 : t->id;
    if (s < SPECIAL_CTAID)
        return axis ? 1 : b->n_threads;
    return s < SPECIAL_NCTAID ? b->at[axis] : b->grid[axis];
}

/* Registers hold what is no number in any type until they are written. */
static void enter(struct thread *t, uint32_t depth, struct function *f)
{
    struct frame *to = &t->frames[depth];
    uint64_t *r = depth ? t->frames[depth - 1].r + t->frames[depth - 1].f->n_registers +
                              t->frames[depth - 1].f->n_constants
                        : t->registers;

    *to = (struct frame){f, r, t->params + depth * PARAM_ROOM, 0};
    memset(r, 0xff, f->n_registers * sizeof *r);
    for (uint32_t i = 0; i < f->n_constants; i++)
        r[f->n_registers + i] = f->constants[i].special ? special_of(t, f->constants[i].special)
                                                        : f->constants[i].value;
    t->depth = depth;
}

static void call(struct thread *t, const struct insn *i)
{
    struct function *f = &t->b->program->functions[i->target];
    struct frame *from = frame_of(t);

    if (t->depth + 1 == FRAMES_MAX || f->params_bytes > PARAM_ROOM || f->local_bytes) {
        block_fault(t, "a call that is too deep or too large");
        return;
    }
    enter(t, t->depth + 1, f);
    for (uint32_t k = 0; k < f->n_params; k++)
        memcpy(frame_of(t)->params + f->params[k].at, from->params + i->r[1 + k],
               f->params[k].bytes);
}

static void leave(struct thread *t)
{
    struct frame *f = frame_of(t), *to;
    const struct insn *i;

    if (!t->depth) {
        t->state = THREAD_DONE;
        return;
    }
    to = &t->frames[--t->depth];
    i = &to->f->code[to->pc];
    if (i->r[0] != UINT32_MAX)
        memcpy(to->params + i->r[0], f->params + f->f->result.at, f->f->result.bytes);
    to->pc++;
}

static uint32_t bytes_of(uint8_t type)
{
    return type <= WORD_B8 ? 1 : type <= WORD_BF16 ? 2 : type <= WORD_BF16X2 ? 4 : 8;
}

/* Operands: the elements and the address, or the address and the elements. */
static void access_memory(struct thread *t, const struct insn *i, uint64_t *r)
{
    uint32_t bytes = bytes_of(i->type), first = i->op == OP_ST;
    uint64_t at = r[i->r[first ? 0 : i->vec]] + (uint64_t)i->offset, value[4];
    uint8_t packed[32];

    if (i->space == WORD_SHARED)
        at &= 0xffffffffu;
    for (uint32_t k = 0; k < i->vec && first; k++)
        memcpy(packed + k * bytes, &r[i->r[1 + k]], bytes);
    if (first) {
        memory_write(t, i->space, at, packed, i->vec * bytes);
        return;
    }
    if (!memory_read(t, i->space, at, packed, i->vec * bytes))
        return;
    memset(value, 0, sizeof value);
    for (uint32_t k = 0; k < i->vec; k++) {
        memcpy(&value[k], packed + k * bytes, bytes);
        if (i->type == WORD_S8 || i->type == WORD_S16)
            value[k] = (uint64_t)(i->type == WORD_S8 ? (int8_t)value[k] : (int16_t)value[k]);
        r[i->r[k]] = value[k];
    }
}

/* Between generic addresses and those of a space, either way. */
static uint64_t address_of(struct thread *t, const struct insn *i, uint64_t a)
{
    uint64_t window = i->space == WORD_SHARED  ? SHARED_WINDOW
                      : i->space == WORD_LOCAL ? LOCAL_WINDOW
                      : i->space == WORD_PARAM ? PARAM_WINDOW
                                               : 0;

    if (!insn_has(i, WORD_TO))
        return a | window;
    if ((a & WINDOW_MASK) != window)
        block_fault(t, "address 0x%llx is in another space", (unsigned long long)a);
    return a & ~window;
}

/* Operands of a copy: to, from, bytes and, where there is one, how many of them are read. */
static void copy_group(struct thread *t, const struct insn *i, const uint64_t *r)
{
    if (insn_has(i, WORD_COMMIT))
        t->group++;
    else if (insn_has(i, WORD_WAIT))
        memory_copies_arrive(t, (uint32_t)r[i->r[0]]);
    else
        memory_copy_asked(t, &(struct arriving){r[i->r[0]] + (uint64_t)i->offset, r[i->r[1]],
                                                (uint32_t)r[i->r[2]],
                                                (uint32_t)r[i->r[i->n - 1]], t->group});
}

static void compute(struct thread *t, const struct insn *i, uint64_t *r)
{
    uint64_t x[4];

    if (i->op == OP_CVTA) {
        r[i->r[0]] = address_of(t, i, r[i->r[1]]);
        return;
    }
    if (i->op == OP_MOV && i->n == 3) { /* two halves packed */
        uint32_t bits = 4 * bytes_of(i->type);
        r[i->r[0]] = (r[i->r[1]] & ((UINT64_C(1) << bits) - 1)) | r[i->r[2]] << bits;
        return;
    }
    for (uint32_t k = 1; k < i->n && k < 5; k++)
        x[k - 1] = r[i->r[k]];
    r[i->r[0]] = value_of(i, x);
}

/* One instruction; the program counter follows. */
static void step(struct thread *t)
{
    struct frame *f = frame_of(t);
    struct insn *i = &f->f->code[f->pc];
    uint64_t *r = f->r;

    if (f->pc >= f->f->n_code) {
        leave(t);
        return;
    }
    if (i->guarded && (r[i->guard] & 1) == i->negated) {
        f->pc++;
        return;
    }
    i->ran = true;
    switch (i->op) {
    case OP_BRA: f->pc = i->target; return;
    case OP_CALL: call(t, i); return;
    case OP_RET:
    case OP_EXIT: leave(t); return;
    case OP_TRAP: block_fault(t, "a trap"); return;
    case OP_BAR: t->state = insn_has(i, WORD_WARP) ? THREAD_AT_WARP : THREAD_AT_BARRIER; return;
    case OP_SHFL:
    case OP_VOTE:
    case OP_MMA:
    case OP_LDMATRIX:
    case OP_MOVMATRIX: t->state = THREAD_AT_WARP; return;
    case OP_LD:
    case OP_ST: access_memory(t, i, r); break;
    case OP_ATOM:
        r[i->r[0]] =
            memory_add(t, i->space, r[i->r[1]] + (uint64_t)i->offset, (uint32_t)r[i->r[2]]);
        break;
    case OP_CP: copy_group(t, i, r); break;
    default: compute(t, i, r); break;
    }
    f->pc++;
}

static void go_on(struct thread *t)
{
    t->state = THREAD_RUNS;
    frame_of(t)->pc++;
}

static bool same_place(struct thread *a, struct thread *b)
{
    return frame_of(a)->f == frame_of(b)->f && frame_of(a)->pc == frame_of(b)->pc;
}

/* All that run have stopped: at the same instruction, or it is a fault. True: they go on. */
static bool meet(struct thread *lanes)
{
    struct thread *first = NULL;

    for (uint32_t k = 0; k < WARP; k++) {
        struct thread *t = &lanes[k];
        if (t->state == THREAD_DONE)
            continue;
        first = first ? first : t;
        if (t->state != first->state || !same_place(t, first))
            block_fault(t, "lanes %u and %u wait at different places (the other at line %u)", k,
                        first->id % WARP, frame_of(first)->f->code[frame_of(first)->pc].line);
    }
    if (!first || first->state == THREAD_AT_BARRIER || first->b->faulted)
        return false;
    warp_run(lanes, &frame_of(first)->f->code[frame_of(first)->pc]);
    for (uint32_t k = 0; k < WARP; k++)
        if (lanes[k].state != THREAD_DONE)
            go_on(&lanes[k]);
    return true;
}

/* A warp until it ends or waits at a barrier of the block. */
static void run_warp(struct thread *lanes)
{
    struct block *b = lanes->b;

    do {
        for (uint32_t k = 0; k < WARP; k++)
            while (lanes[k].state == THREAD_RUNS && !b->faulted)
                step(&lanes[k]);
    } while (!b->faulted && meet(lanes));
}

static void run_block(struct block *b, struct function *f)
{
    bool waiting = true;

    b->epoch = 0;
    memset(b->warp_epoch, 0, sizeof b->warp_epoch);
    memset(b->touched, 0, b->shared_bytes * sizeof *b->touched);
    memset(b->shared, 0xff, b->shared_bytes);
    for (uint32_t k = 0; k < b->n_threads; k++) {
        struct thread *t = &b->threads[k];
        t->state = THREAD_RUNS;
        t->n_copies = t->group = 0;
        enter(t, 0, f);
        memcpy(t->params, b->args, f->params[0].bytes);
    }
    while (waiting && !b->faulted) {
        for (uint32_t k = 0; k < b->n_threads; k += WARP)
            run_warp(&b->threads[k]);
        b->epoch++;
        waiting = false;
        for (uint32_t k = 0; k < b->n_threads && !b->faulted; k++)
            if (b->threads[k].state == THREAD_AT_BARRIER) {
                waiting = true;
                go_on(&b->threads[k]);
            }
    }
}

/* Registers of a thread: the kernel's and those of the largest functions it may call. */
static uint32_t registers_of(const struct launch *l)
{
    uint32_t most = 0;

    for (uint32_t k = 0; k < l->program->n_functions; k++) {
        const struct function *f = &l->program->functions[k];
        uint32_t n = f->n_registers + f->n_constants;
        if (!f->entry && n > most)
            most = n;
    }
    return l->f->n_registers + l->f->n_constants + (FRAMES_MAX - 1) * most;
}

static void make_threads(struct block *b, const struct launch *l, uint8_t *room)
{
    uint32_t registers = registers_of(l), local = (l->f->local_bytes + 15) / 16 * 16;
    size_t each = registers * sizeof(uint64_t) + FRAMES_MAX * PARAM_ROOM + local;

    for (uint32_t k = 0; k < b->n_threads; k++) {
        struct thread *t = &b->threads[k];
        uint8_t *mine = room + k * each;
        t->b = b;
        t->id = k;
        t->registers = (uint64_t *)(void *)mine;
        t->params = mine + registers * sizeof(uint64_t);
        t->local = t->params + FRAMES_MAX * PARAM_ROOM;
    }
}

static size_t room_of(const struct launch *l)
{
    return l->n_threads * (registers_of(l) * sizeof(uint64_t) + FRAMES_MAX * PARAM_ROOM +
                           (l->f->local_bytes + 15) / 16 * 16);
}

bool launch_run(const struct launch *l)
{
    struct block *b = calloc(1, sizeof *b);
    uint8_t *room = malloc(room_of(l));
    bool ok;

    b->program = l->program;
    b->heap = l->heap;
    b->n_threads = l->n_threads;
    b->shared_bytes = l->shared_bytes;
    b->args = l->args;
    memcpy(b->grid, l->grid, sizeof b->grid);
    b->shared = malloc(l->shared_bytes + 16);
    b->touched = malloc((l->shared_bytes + 16) * sizeof *b->touched);
    b->threads = calloc(l->n_threads, sizeof *b->threads);
    make_threads(b, l, room);
    uint64_t n = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
    for (uint64_t k = 0; k < n && !b->faulted; k++) {
        b->at[0] = (uint32_t)(k % l->grid[0]);
        b->at[1] = (uint32_t)(k / l->grid[0] % l->grid[1]);
        b->at[2] = (uint32_t)(k / l->grid[0] / l->grid[1]);
        run_block(b, l->f);
    }
    ok = !b->faulted;
    if (!ok)
        fprintf(stderr, "ptx: %s\n", b->fault);
    for (uint32_t k = 0; k < l->n_threads; k++)
        free(b->threads[k].copies);
    free(b->threads);
    free(b->touched);
    free(b->shared);
    free(b);
    free(room);
    return ok;
}
