/* The figures Budget shows, as one table over the paths of the report, and the pinned plan they
 * are compared with. */
#ifndef KVBUDGET_TUI_BASELINE_H
#define KVBUDGET_TUI_BASELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum figure { /* in the order they are shown */
              FIGURE_WEIGHTS,
              FIGURE_ACTIVATIONS,
              FIGURE_OUTSIDE,
              FIGURE_GRAPHS,
              FIGURE_WORKSPACE,
              FIGURE_USED,   /* cache that the batch takes */
              FIGURE_FREE,   /* the rest of the pool */
              FIGURE_UNUSED, /* memory that the engine leaves alone */
              FIGURE_BATCH,
              FIGURE_CONTEXT,
              FIGURE_CONCURRENCY,
              FIGURE_TOKENS_PER_S,
              FIGURE_DECODE,
              FIGURE_PREFILL,
              FIGURE_TOKEN,
              FIGURE_PREFILL_PEAK,
              FIGURE_AFTER_PREFILL,
              FIGURE_SEQUENCE,
              FIGURE_STATE,
              FIGURE_HOST,
              N_FIGURES
};

enum measure { MEASURE_BYTES, MEASURE_COUNT, MEASURE_RATIO, MEASURE_SECONDS, MEASURE_RATE };

struct figure_row {
    const char *label;
    const char *path; /* in the report: its value, or what explains it */
    enum measure measure;
    int better;    /* +1: more is better, -1: less, 0: neither */
    bool memory;   /* a part of the bar */
    bool optional; /* not shown while 0 */
};
const struct figure_row *figure_row(enum figure f);

struct figures {
    double v[N_FIGURES];
    bool known[N_FIGURES];
};

struct session;
/* Of the last plan; all unknown when there is none. */
void figures_of(struct session *s, struct figures *out);

/* "14.99 GiB", "7,226", "24.2 ms", as the report has it; "-" when it is not known. 32 bytes are
 * enough. */
char *figure_text(enum figure f, double v, bool known, char *buf, size_t n);

struct baseline { /* a pinned plan */
    bool pinned;
    uint64_t generation; /* of the session, when it was pinned */
    char name[80];       /* "Llama-3.1-8B on 2 x h100-sxm5-80gb" */
    struct figures figures;
    struct arena *arena; /* of its own; the last one until the next is pinned */
    const char *text;    /* its spec as YAML, for Curves */
};

/* Takes the session's last plan as the baseline. */
void baseline_pin(struct baseline *b, struct session *s);

enum change { CHANGE_NONE, CHANGE_BETTER, CHANGE_WORSE, CHANGE_OTHER };
/* "+12 %", "-3.4 %", "x 81", "new", "gone"; "" and CHANGE_NONE where there is nothing to say.
 */
enum change baseline_change(const struct baseline *b, const struct figures *now, enum figure f,
                            char *buf, size_t n);

#endif
