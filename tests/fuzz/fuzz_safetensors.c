/* safetensors: a header whose tensors cover the data without gap or overlap, or a message; the
 * same text as an index: files beside it, or a message. The first eight bytes of the input are
 * made the length of the rest, and the size of the file what the header asks for, so that the
 * checks behind the JSON are reached; the input as it stands is read as well. */
#include <string.h>

#include "planner/doc/safetensors.h"
#include "tests/fuzz/fuzz.h"

#undef NDEBUG
#include <assert.h>

enum { LENGTH = 8 };

static void check(struct arena *a, struct source *s)
{
    struct diag *d = diag_new(a);
    struct safetensors t;
    bool ok = safetensors_read(a, s, d, &t);
    uint64_t at = 0;

    assert(ok == !diag_failed(d));
    for (size_t i = 0; ok && i < t.n; i++) {
        assert(t.v[i].begin == at && t.v[i].end >= at);
        at = t.v[i].end;
    }
    assert(!ok || at == t.data_bytes);
}

static void check_index(struct arena *a, const char *text, size_t n)
{
    struct diag *d = diag_new(a);
    struct safetensors_index x;
    char *copy = arena_alloc(a, n + 1, 1);
    bool ok;

    memcpy(copy, text, n);
    ok = safetensors_read_index(a, "fuzz.json", copy, n, d, &x);
    assert(ok == !diag_failed(d));
    for (size_t i = 0; ok && i < x.n_files; i++)
        assert(!strchr(x.files[i], '/') && x.files[i][0] != '.');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = {0, 1, 4, 16, 64, 1360};
    struct arena *a = arena_new();
    struct source s;

    source_memory("fuzz.safetensors", data, size, &s);
    check(a, &s);
    if (size > LENGTH) {
        uint8_t *copy = arena_alloc(a, size, 1);

        memcpy(copy, data, size);
        for (size_t i = 0; i < LENGTH; i++)
            copy[i] = (uint8_t)((uint64_t)(size - LENGTH) >> (8 * i));
        source_memory("fuzz.safetensors", copy, size, &s);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            s.size_bytes = size + sizes[i]; /* only the header is read */
            check(a, &s);
        }
        check_index(a, (const char *)data + LENGTH, size - LENGTH);
    }
    arena_free(a);
    return 0;
}
