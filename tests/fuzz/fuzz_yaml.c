/* YAML reader: a tree or a message, and what was read survives being written and read again. */
#include "tests/fuzz/fuzz.h"

#include "tests/fuzz/tree.h"

enum { DOCUMENTS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    struct doc_node *v[DOCUMENTS] = {NULL};
    size_t n = 0;
    bool ok = doc_read_yaml(a, "fuzz.yaml", (const char *)data, size, d, v, DOCUMENTS, &n);

    assert(n <= DOCUMENTS);
    assert(ok == !diag_failed(d));
    assert(diag_exit(d) == (ok ? 0 : 3));
    for (size_t i = 0; ok && i < n; i++) {
        tree_round_trip(a, v[i]);
        tree_yaml_round_trip(a, v[i]);
    }
    arena_free(a);
    return 0;
}
