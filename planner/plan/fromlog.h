/* The way back from a server to a plan: a pasted command line and what the server prints when
 * it starts give the settings of a spec and measured terms. The settings are laid under the
 * spec's own keys; the terms are put beside what was predicted, one by one. */
#ifndef KVBUDGET_PLANNER_PLAN_FROMLOG_H
#define KVBUDGET_PLANNER_PLAN_FROMLOG_H

#include "planner/doc/profile.h"
#include "planner/plan/json.h"

enum { LOG_FILE_MAX = 16 << 20, LOG_LINE_MAX = 64 << 10 };
enum { LOG_SETTINGS_MAX = 48, LOG_TERMS_MAX = 64, LOG_MODELS_MAX = 8 };

/* A key of the spec. Paths that start with '_' are marks that no spec has. */
struct log_setting {
    const char *path, *value;
    const char *words; /* where it was seen: "--max-model-len", "max_seq_len" */
    struct loc at;
    int rank; /* a flag of the command line is worth more than what is printed */
};

/* A figure of the report, as the server printed it. */
struct log_term {
    const char *path;  /* "memory.per_gpu.weights_bytes", "capacity.kv_tokens" */
    double value;      /* bytes, or the number */
    double resolution; /* half of the last printed digit; 0 = exact */
    struct loc at;
};

struct server_log {
    const char *name;    /* of the file */
    const char *engine;  /* as specs name it: vllm, sglang, trtllm, llamacpp */
    const char *version; /* as it was printed; NULL = it was not */
    struct log_setting settings[LOG_SETTINGS_MAX];
    size_t n_settings;
    struct log_term terms[LOG_TERMS_MAX];
    size_t n_terms;
    struct log_setting models[LOG_MODELS_MAX]; /* every name the model was given */
    size_t n_models;
    struct diag *diag; /* what was noticed on the way */
};

/* Reads a text of at most LOG_FILE_MAX bytes. Lines are cut at LOG_LINE_MAX, control characters
 * replaced. False with DIAG_INPUT when nothing is recognised, when two engines speak in it,
 * when a flag's value is malformed, or when flags contradict each other by the engine's own
 * rule; the messages are in `d` and in out->diag. */
bool fromlog_read(struct arena *a, const char *name, const char *text, size_t size,
                  struct diag *d, struct server_log *out) __attribute__((warn_unused_result));

/* Adds to a spec what it leaves open, with the place in the log; notes what was taken, and
 * where the spec says otherwise (the spec wins). False (DIAG_INPUT) when the spec names another
 * engine. `spec` must be a map, else nothing is done. */
bool fromlog_lay_under(struct arena *a, const struct server_log *log,
                       const struct profiles *profiles, struct doc_node *spec, struct diag *d)
    __attribute__((warn_unused_result));

/* Adds `from_log` to a report: engine, version, settings and {path, predicted, measured,
 * difference, relative} a term. difference = predicted - measured, in the unit of the path;
 * relative is to the measured value. A term that the report does not have has no prediction. */
void fromlog_json(const struct server_log *log, cJSON *report);

/* The same as a table, from the report's JSON. */
void fromlog_table(struct arena *a, const cJSON *report, FILE *out);

#endif
