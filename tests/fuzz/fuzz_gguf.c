/* GGUF: a header or a message; what is read lies within the file; a model that is made of it
 * passes its own checks, holds no more than the file, and counts without wrapping. The input
 * stands for the whole file; a copy with as much room behind it as its tensors ask for is read
 * as well, so that the sizes are reached. */
#include <string.h>

#include "planner/model/from_gguf.h"
#include "planner/model/weights.h"
#include "tests/fuzz/fuzz.h"

#undef NDEBUG
#include <assert.h>

enum { ROOM = 1 << 30 };

struct input {
    const uint8_t *data;
    size_t n;
};

static bool read_padded(struct source *s, uint64_t from, void *buf, size_t n, struct diag *d)
{
    const struct input *in = s->self;
    size_t have = from < in->n ? in->n - (size_t)from : 0;

    (void)d;
    memset(buf, 0, n);
    memcpy(buf, in->data + (have ? from : 0), have < n ? have : n);
    return true;
}

static enum store_answer open_it(struct store *s, struct arena *a, const char *file,
                                 struct diag *d, struct source *out)
{
    struct input *in = s->self;

    (void)a, (void)file, (void)d;
    *out = (struct source){.name = "fuzz.gguf",
                           .size_bytes = (uint64_t)in->n + ROOM,
                           .chunk_bytes = 1 << 14,
                           .read = read_padded,
                           .self = in};
    return STORE_FOUND;
}

static void check_header(struct arena *a, const uint8_t *data, size_t size)
{
    struct diag *d = diag_new(a);
    struct source s;
    struct gguf g;
    bool ok;

    source_memory("fuzz.gguf", data, size, &s);
    ok = gguf_read(a, &s, d, &g);
    assert(ok == !diag_failed(d));
    for (size_t i = 0; ok && i < g.n_pairs; i++)
        assert(gguf_find(&g, g.pairs[i].key) == &g.pairs[i]);
    for (size_t i = 0; ok && i < g.n_tensors; i++)
        assert(g.tensors[i].n_elems > 0 && g.tensors[i].n_dims <= GGUF_DIMS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    struct input in = {data, size};
    struct store s = {.name = "fuzz", .open = open_it, .self = &in};
    struct param_count count;
    struct ck ck = {false};
    struct model m;
    bool ok;

    check_header(a, data, size);
    ok = model_from_gguf(a, &s, "fuzz.gguf", d, &m);
    assert(ok == !diag_failed(d));
    if (ok) {
        assert(m.weights_bytes <= (uint64_t)size + ROOM);
        weights_count(&m, NULL, &count, &ck);
        assert(!ck.over && count.total > 0);
    }
    arena_free(a);
    return 0;
}
