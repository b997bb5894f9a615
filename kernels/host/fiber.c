/* The switch saves the registers that a called function must preserve (System V AMD64 ABI,
 * AAPCS64) on the stack and exchanges stack pointers. Floating-point control words are left
 * alone: no kernel changes them. Where shadow stacks are on, and on other machines, ucontext
 * does it. Define FIBER_UCONTEXT to use it anyway. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS */
#endif
#include "kernels/host/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined FIBER_UCONTEXT && !(defined __CET__ && (__CET__ & 2)) &&                          \
    (defined __x86_64__ || defined __aarch64__) && defined __ELF__
#define FIBER_SWITCH 1
#else
#define FIBER_SWITCH 0
#include <ucontext.h>
#endif

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#if defined __SANITIZE_ADDRESS__ && !defined FIBER_ASAN
#define FIBER_ASAN 1
#endif
#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

struct fiber {
#if FIBER_SWITCH
    void *sp;
#else
    ucontext_t context;
#endif
    char *stack;
    fiber_fn fn;
    void *arg;
    void *shadow; /* of the sanitizer */
};

struct fibers {
    size_t n, stack_bytes, map_bytes, gap;
    char *map;
    struct fiber caller; /* its stack is known after the first switch, when someone looks */
    size_t caller_bytes;
    struct fiber fiber[];
};

#if FIBER_SWITCH
/* fiber_switch(&save, load): stores the stack pointer of now, continues at the one in load.
 * fiber_begin: where a new fiber comes to life; its function and argument lie in preserved
 * registers. */
void fiber_switch(void **save, void *load);
void fiber_begin(void);
#endif
#if FIBER_SWITCH && defined __x86_64__
__asm__(".text\n"
        ".globl fiber_switch\n.hidden fiber_switch\n.type fiber_switch, @function\n"
        "fiber_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size fiber_switch, .-fiber_switch\n"
        ".globl fiber_begin\n.hidden fiber_begin\n.type fiber_begin, @function\n"
        "fiber_begin:\n"
        "    .cfi_startproc\n    .cfi_undefined rip\n"
        "    movq %r12, %rdi\n"
        "    call *%r13\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".size fiber_begin, .-fiber_begin\n");

enum { SAVED_WORDS = 7, SLOT_ARG = 3, SLOT_FN = 2, SLOT_RETURN = 6 };
#elif FIBER_SWITCH
__asm__(".text\n"
        ".globl fiber_switch\n.hidden fiber_switch\n.type fiber_switch, %function\n"
        "fiber_switch:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size fiber_switch, .-fiber_switch\n"
        ".globl fiber_begin\n.hidden fiber_begin\n.type fiber_begin, %function\n"
        "fiber_begin:\n"
        "    mov x0, x19\n"
        "    blr x20\n"
        "    brk #0\n"
        ".size fiber_begin, .-fiber_begin\n");

enum { SAVED_WORDS = 20, SLOT_ARG = 0, SLOT_FN = 1, SLOT_RETURN = 11 };
#endif

struct fibers *fibers_new(size_t n, size_t stack_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct fibers *f = calloc(1, sizeof *f + n * sizeof f->fiber[0]);

    if (!f)
        return NULL;
    f->n = n;
    f->gap = page;
    f->stack_bytes = (stack_bytes + page - 1) / page * page;
    f->map_bytes = n * (f->gap + f->stack_bytes);
    f->map = mmap(NULL, f->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->map == MAP_FAILED) {
        free(f);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        f->fiber[i].stack = f->map + i * (f->gap + f->stack_bytes) + f->gap;
        if (mprotect(f->fiber[i].stack, f->stack_bytes, PROT_READ | PROT_WRITE) != 0) {
            fibers_free(f);
            return NULL;
        }
    }
    return f;
}

void fibers_free(struct fibers *f)
{
    if (!f)
        return;
#ifdef FIBER_ASAN
    __asan_unpoison_memory_region(f->map, f->map_bytes);
#endif
    munmap(f->map, f->map_bytes);
    free(f);
}

size_t fibers_count(const struct fibers *f)
{
    return f->n;
}

/* The first frame of every fiber. */
static void begin(struct fibers *f, size_t i)
{
#ifdef FIBER_ASAN
    const void *bottom;

    __sanitizer_finish_switch_fiber(NULL, &bottom, &f->caller_bytes);
    f->caller.stack = (char *)(uintptr_t)bottom;
#endif
    f->fiber[i].fn(f->fiber[i].arg);
    abort();
}

#if FIBER_SWITCH
struct birth { /* at the top of a new stack */
    struct fibers *f;
    size_t i;
};

static void born(void *arg)
{
    const struct birth *b = arg;

    begin(b->f, b->i);
}

static void prepare(struct fibers *f, size_t i)
{
    struct fiber *x = &f->fiber[i];
    struct birth *b = (struct birth *)(void *)(x->stack + f->stack_bytes - 64);
    uintptr_t *top = (uintptr_t *)(void *)(x->stack + f->stack_bytes - 128) - SAVED_WORDS;

    *b = (struct birth){f, i};
    for (size_t w = 0; w < SAVED_WORDS; w++)
        top[w] = 0;
    top[SLOT_ARG] = (uintptr_t)b;
    top[SLOT_FN] = (uintptr_t)born;
    top[SLOT_RETURN] = (uintptr_t)fiber_begin;
    x->sp = top;
}

static void exchange(struct fiber *from, struct fiber *to)
{
    fiber_switch(&from->sp, to->sp);
}
#else
static void born(unsigned high, unsigned low, unsigned i)
{
    begin((struct fibers *)(((uintptr_t)high << 16 << 16) | low), i);
}

static void prepare(struct fibers *f, size_t i)
{
    struct fiber *x = &f->fiber[i];
    uintptr_t p = (uintptr_t)f;

    getcontext(&x->context);
    x->context.uc_stack.ss_sp = x->stack;
    x->context.uc_stack.ss_size = f->stack_bytes;
    x->context.uc_link = NULL;
    makecontext(&x->context, (void (*)(void))born, 3, (unsigned)(p >> 16 >> 16),
                (unsigned)(p & 0xffffffffu), (unsigned)i);
}

static void exchange(struct fiber *from, struct fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#endif

void fiber_reset(struct fibers *f, size_t i, fiber_fn fn, void *arg)
{
    struct fiber *x = &f->fiber[i];

#ifdef FIBER_ASAN
    __asan_unpoison_memory_region(x->stack, f->stack_bytes);
#endif
    x->fn = fn;
    x->arg = arg;
    x->shadow = NULL;
    prepare(f, i);
}

void fiber_run(struct fibers *f, size_t i)
{
    struct fiber *x = &f->fiber[i];

#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(&f->caller.shadow, x->stack, f->stack_bytes);
#endif
    exchange(&f->caller, x);
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(f->caller.shadow, NULL, NULL);
#endif
}

void fiber_yield(struct fibers *f, size_t i, bool last)
{
    struct fiber *x = &f->fiber[i];

#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(last ? NULL : &x->shadow, f->caller.stack, f->caller_bytes);
#endif
    (void)last;
    exchange(x, &f->caller);
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(x->shadow, NULL, NULL);
#endif
}
