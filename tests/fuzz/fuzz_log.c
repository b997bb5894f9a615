/* Logs and command lines of servers: whatever is in them, there is a message or a log whose
 * terms are finite sizes with a path, whose settings can be laid under a spec, and a spec's own
 * keys stand. Models named by a log are not opened: the spec names one. */
#include <stdlib.h>
#include <string.h>

#include "planner/plan/fromlog.h"
#include "tests/fuzz/fuzz.h"

#undef NDEBUG
#include <assert.h>

enum { SIZE_MAX_FUZZ = 1 << 18 };

static const char spec[] = "model: m\nhardware: {gpu: g}\nengine: {max_model_len: 77}\n";

static void check_log(const struct server_log *log)
{
    assert(log->engine && log->n_settings <= LOG_SETTINGS_MAX);
    assert(log->n_terms <= LOG_TERMS_MAX && log->n_models <= LOG_MODELS_MAX);
    for (size_t i = 0; i < log->n_terms; i++) {
        const struct log_term *t = &log->terms[i];
        assert(strchr(t->path, '.') && t->at.line > 0);
        assert(t->value >= 0 && t->value - t->value == 0 && t->resolution >= 0);
    }
    for (size_t i = 0; i < log->n_settings; i++)
        assert(*log->settings[i].path && log->settings[i].value);
}

static void lay(struct arena *a, const struct server_log *log)
{
    struct diag *d = diag_new(a);
    struct doc_node *doc = NULL;
    cJSON *report = json_object(NULL, NULL);
    size_t n = 0;
    bool ok = doc_read_yaml(a, "fuzz.yaml", spec, sizeof spec - 1, d, &doc, 1, &n);

    assert(ok && n == 1);
    ok = fromlog_lay_under(a, log, profiles_open(a, NULL, d), doc, d);
    assert(ok && !diag_failed(d));
    assert(!strcmp(doc_path(doc, "engine.max_model_len")->text, "77"));
    assert(!strcmp(doc_path(doc, "model")->text, "m"));
    assert(!strcmp(doc_path(doc, "engine.name")->text, log->engine));
    fromlog_json(log, report);
    cJSON_Delete(report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    struct server_log log;

    if (size <= SIZE_MAX_FUZZ) {
        bool ok = fromlog_read(a, "fuzz.log", (const char *)data, size, d, &log);
        assert(ok == !diag_failed(d));
        if (ok) {
            check_log(&log);
            lay(a, &log);
        }
    }
    arena_free(a);
    return 0;
}
