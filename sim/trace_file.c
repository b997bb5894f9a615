/* A trace file: its format found, its records checked. */
#include "sim/trace_file.h"

#include <string.h>

static const double ARRIVAL_MAX_S = 1e11; /* a clock that starts in 1970 is fine */

const char *trace_value(struct trace_file *t, enum trace_what what, const char *at,
                        struct request *out)
{
    const struct trace_format *f = t->format;
    const char *stop;
    double v = 0;

    if (what == TRACE_PROMPT)
        return line_u64(&t->lines, at, f->names[what], TRACE_TOKENS_MAX, &out->prompt_tokens);
    if (what == TRACE_OUTPUT)
        return line_u64(&t->lines, at, f->names[what], TRACE_TOKENS_MAX, &out->output_tokens);
    if (f->arrival)
        return f->arrival(&t->clock, &t->lines, at, &out->arrival_s);
    stop = line_real(&t->lines, at, f->names[what], &v);
    out->arrival_s = v / f->per_s;
    if (stop && !(out->arrival_s <= ARRIVAL_MAX_S)) {
        line_error(&t->lines, at, "%s is %.6g s, later than 1e11 s", f->names[what],
                   out->arrival_s);
        return NULL;
    }
    return stop;
}

/* --- the format -----------------------------------------------------------------------------
 */

static bool fits(const struct trace_format *f, const struct lines *l, bool lengths_only)
{
    return f->json ? trace_json_fits(f, l, lengths_only) : trace_csv_fits(f, l, lengths_only);
}

static bool unknown(struct trace_file *t)
{
    char line[64];
    size_t n = t->lines.n < sizeof line ? t->lines.n : sizeof line - 1;

    for (size_t i = 0; i < n; i++)
        line[i] = t->lines.text[i] >= ' ' && t->lines.text[i] != 127 ? t->lines.text[i] : '?';
    line[n] = '\0';
    return line_error(&t->lines, t->lines.text,
                      "is no trace that is known here: the first line is '%s%s'; "
                      "`kvbudget list traces` has the formats",
                      line, n < t->lines.n ? "..." : "");
}

/* The first line is read; a header is taken, a record waits to be read. */
static bool start(struct trace_file *t)
{
    bool failed;

    if (!lines_next(&t->lines, &failed))
        return !failed && diag_add(t->lines.diag, DIAG_INPUT,
                                   (struct loc){.file = t->lines.name}, "holds no requests");
    for (size_t i = 0; !t->format && trace_format_at(i); i++)
        if (fits(trace_format_at(i), &t->lines, t->lengths_only))
            t->format = trace_format_at(i);
    if (!t->format)
        return unknown(t);
    t->again = t->format->json;
    return t->format->json || trace_csv_header(t);
}

struct trace_file *trace_file_open(struct arena *a, const struct trace_source *from,
                                   struct diag *d)
{
    struct trace_file *t = ARENA_NEW(a, struct trace_file, 1);

    t->lengths_only = from->lengths_only;
    if (from->format) {
        t->format = trace_format_find(from->format, d);
        if (!t->format)
            return NULL;
    }
    if (from->text)
        lines_of_text(a, from->path, from->text, from->n, TRACE_LINE_MAX, d, &t->lines);
    else if (!lines_open(a, from->path, TRACE_LINE_MAX, d, &t->lines))
        return NULL;
    if (!start(t)) {
        lines_close(&t->lines);
        return NULL;
    }
    if (t->format->names[TRACE_HASHES])
        t->hashes = ARENA_NEW(a, uint64_t, TRACE_HASHES_MAX);
    return t;
}

void trace_file_close(struct trace_file *t)
{
    if (t)
        lines_close(&t->lines);
}

bool trace_file_rewind(struct trace_file *t)
{
    if (!lines_rewind(&t->lines))
        return false;
    t->again = t->any = t->clock.started = false;
    t->skipped = 0;
    return start(t);
}

/* --- records
 * ----------------------------------------------------------------------------------
 */

static bool in_order(struct trace_file *t, const struct request *r)
{
    bool before = t->any && r->arrival_s < t->last_s;

    if (before && !t->lengths_only)
        return line_error(&t->lines, NULL,
                          "the request arrives at %.9g s, before the one above it (%.9g s); "
                          "sort the file by arrival",
                          r->arrival_s, t->last_s);
    t->last_s = r->arrival_s;
    t->any = true;
    return true;
}

/* More hashes than the prompt has blocks would be another prompt's. */
static bool blocks_fit(const struct trace_file *t, const struct request *r)
{
    uint64_t blocks =
        r->n_hashes ? (r->prompt_tokens + r->hash_tokens - 1) / r->hash_tokens : 0;

    return r->n_hashes <= blocks ||
           line_error(&t->lines, NULL,
                      "%s has %u blocks, but a prompt of %llu tokens has %llu of %u tokens",
                      t->format->names[TRACE_HASHES], r->n_hashes,
                      (unsigned long long)r->prompt_tokens, (unsigned long long)blocks,
                      r->hash_tokens);
}

bool trace_file_next(struct trace_file *t, struct request *out, bool *failed)
{
    for (;;) {
        *failed = false;
        if (!t->again && !lines_next(&t->lines, failed))
            return false;
        t->again = false;
        *out = (struct request){.hash_tokens = t->format->hash_tokens, .hashes = t->hashes};
        *failed = !(t->format->json ? trace_json_row(t, out) : trace_csv_row(t, out)) ||
                  !in_order(t, out) || !blocks_fit(t, out);
        if (*failed)
            return false;
        if (out->prompt_tokens && out->output_tokens)
            return true;
        if (t->skipped++ == 0)
            t->first_skipped = t->lines.line;
    }
}
