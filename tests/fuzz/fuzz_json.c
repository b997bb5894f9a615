/* JSON reader: a tree or a message; lenient reading accepts whatever strict reading does. */
#include "tests/fuzz/fuzz.h"

#include "tests/fuzz/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct diag *strict = diag_new(a), *lenient = diag_new(a);
    struct doc_node *s = NULL, *l = NULL;
    const char *text = (const char *)data;
    bool ok = doc_read_json(a, "fuzz.json", text, size, false, strict, &s);
    bool ok_lenient = doc_read_json(a, "fuzz.json", text, size, true, lenient, &l);

    assert(ok == !diag_failed(strict));
    assert(ok_lenient == !diag_failed(lenient));
    assert(!ok || ok_lenient);
    if (ok)
        tree_equal(s, l);
    if (ok_lenient)
        tree_round_trip(a, l);
    arena_free(a);
    return 0;
}
