/* config.json through the family registry: a model that passes its own checks and counts
 * without wrapping, or a message; what is written as YAML reads back with the same counts. */
#include <stdlib.h>
#include <string.h>

#include "planner/cache/layout.h"
#include "planner/model/weights.h"
#include "tests/fuzz/fuzz.h"

#undef NDEBUG
#include <assert.h>

enum { SIZE_MAX_FUZZ = 65536 };

static void read_back(struct arena *a, const struct model *m, const struct param_count *want)
{
    struct diag *d = diag_new(a);
    struct doc_node *doc = NULL;
    struct model again;
    struct param_count got;
    struct ck ck = {0};
    char *text = NULL;
    size_t size = 0, n = 0;
    FILE *f = open_memstream(&text, &size);

    assert(f);
    model_write_yaml(m, f);
    fclose(f);
    bool ok = doc_read_yaml(a, "written", text, size, d, &doc, 1, &n) && n == 1 &&
              model_from_inline(a, doc, d, &again) && model_check(&again, d);
    if (!ok) {
        fprintf(stderr, "%s\n", text);
        diag_print(d, 0, true, stderr);
    }
    assert(ok);
    weights_count(&again, NULL, &got, &ck);
    assert(got.total == want->total && got.active == want->active);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    struct doc_node *doc = NULL;
    struct model m;
    struct layout lay;
    struct param_count count;
    struct ck ck = {0};

    if (size <= SIZE_MAX_FUZZ &&
        doc_read_json(a, "config.json", (const char *)data, size, true, d, &doc) &&
        doc->kind == DOC_MAP && model_from_config(a, doc, "fuzz/model", d, &m) &&
        model_check(&m, d)) {
        weights_count(&m, NULL, &count, &ck);
        if (!ck.over)
            read_back(a, &m, &count);
        assert(layout_new(a, &m, d, &lay) || diag_failed(d));
    } else {
        assert(!doc || diag_failed(d) || doc->kind != DOC_MAP);
    }
    arena_free(a);
    return 0;
}
