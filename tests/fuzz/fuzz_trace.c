/* Traces: whatever a file holds, requests come in order and within their bounds, what is wrong
 * is said, and a second reading gives the same. */
#include "sim/trace.h"

#include "sim/trace_file.h"
#include "tests/fuzz/fuzz.h"

#undef NDEBUG
#include <assert.h>

enum { SIZE_MAX_FUZZ = 1 << 18 };

struct seen {
    uint64_t n, prompt, output, hashes;
};

static void check(const struct request *r, uint64_t id, double last_s)
{
    uint64_t blocks;

    assert(r->id == id);
    assert(r->arrival_s >= last_s && r->arrival_s - r->arrival_s == 0);
    assert(r->prompt_tokens >= 1 && r->prompt_tokens <= TRACE_TOKENS_MAX);
    assert(r->output_tokens >= 1 && r->output_tokens <= TRACE_TOKENS_MAX);
    if (!r->n_hashes)
        return;
    blocks = (r->prompt_tokens + r->hash_tokens - 1) / r->hash_tokens;
    assert(r->n_hashes <= blocks && r->n_hashes <= TRACE_HASHES_MAX);
}

static struct seen read_all(struct trace *t)
{
    struct seen s = {0};
    struct request r;
    double last_s = 0;

    while (trace_next(t, &r)) {
        check(&r, s.n++, last_s);
        last_s = r.arrival_s;
        s.prompt ^= r.prompt_tokens * 3 + s.n;
        s.output ^= r.output_tokens * 5 + s.n;
        for (uint32_t i = 0; i < r.n_hashes; i++)
            s.hashes ^= r.hashes[i];
    }
    assert(!trace_next(t, &r));
    return s;
}

static void read_twice(struct arena *a, const char *text, size_t n,
                       const struct trace_scale *scale)
{
    struct diag *d = diag_new(a);
    struct trace *t = trace_of_text(a, text, n, NULL, scale, d);
    struct seen first, again;

    if (!t) {
        assert(diag_failed(d));
        return;
    }
    first = read_all(t);
    assert(first.n || diag_failed(d));
    if (!trace_rewind(t, scale->rate)) {
        assert(diag_failed(d));
        return;
    }
    again = read_all(t);
    assert(first.n == again.n && first.prompt == again.prompt && first.output == again.output &&
           first.hashes == again.hashes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct trace_scale plain = {1, 1, 1, 0}, scaled = {3, 0.3, 2.5, 50};
    struct arena *a = arena_new();

    if (size <= SIZE_MAX_FUZZ) {
        read_twice(a, (const char *)data, size, &plain);
        read_twice(a, (const char *)data, size, &scaled);
    }
    arena_free(a);
    return 0;
}
