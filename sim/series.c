/* Intervals [start + i * width, start + (i + 1) * width): those still open lie in an array. */
#include "sim/series.h"

#include <stdlib.h>
#include <string.h>

#include "planner/base/ck.h"

/* Rows that may be open while one replica lags behind the others; beyond that the oldest is
 * closed, and what still comes for it counts in the next. */
enum { OPEN_MAX = 1 << 18, OPEN_MIN = 256 };
static const double FIRST_POINT_S = 1.0 / 1024;

struct series {
    FILE *out;
    uint32_t points; /* 0: rows */
    uint32_t replicas;
    uint64_t *units; /* [replicas] */
    double width_s, start_s;
    bool started;
    uint64_t closed; /* rows before the first one that is open */
    struct series_row *rows;
    uint64_t n, cap;
};

static struct series *series_new(uint32_t replicas, uint64_t cap)
{
    struct series *s = calloc(1, sizeof *s);

    if (s) {
        s->replicas = replicas;
        s->units = calloc(replicas, sizeof *s->units);
        s->rows = calloc(cap, sizeof *s->rows);
        s->cap = cap;
    }
    if (s && s->units && s->rows)
        return s;
    series_free(s);
    return NULL;
}

struct series *series_new_rows(uint32_t replicas, double interval_s, FILE *out)
{
    struct series *s = series_new(replicas, OPEN_MIN);

    if (!s)
        return NULL;
    s->width_s = interval_s;
    s->out = out;
    fputs("from_s,to_s,running,waiting,cache_used_share,busy_share,prompt_tokens_per_s,"
          "output_tokens_per_s,steps\n",
          out);
    return s;
}

struct series *series_new_points(uint32_t replicas, uint32_t points)
{
    struct series *s = series_new(replicas, points);

    if (!s)
        return NULL;
    s->width_s = FIRST_POINT_S;
    s->points = points;
    return s;
}

void series_units(struct series *s, uint32_t replica, uint64_t units)
{
    s->units[replica] = units;
}

void series_free(struct series *s)
{
    if (!s)
        return;
    free(s->units);
    free(s->rows);
    free(s);
}

/* --- rows -----------------------------------------------------------------------------------
 */

static void print_row(const struct series *s, const struct series_row *r, uint64_t index)
{
    double w = s->width_s, from = s->start_s + (double)index * w;

    fprintf(s->out, "%.9g,%.9g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g\n", from, from + w,
            r->running_s / w, r->waiting_s / w, r->used_s / w / s->replicas,
            r->busy_s / w / s->replicas, r->prompt_tokens / w, r->output_tokens / w, r->steps);
}

/* Closes the first `n` open rows. */
static void close_rows(struct series *s, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        print_row(s, &s->rows[i], s->closed + i);
    memmove(s->rows, s->rows + n, (s->n - n) * sizeof *s->rows);
    memset(s->rows + (s->n - n), 0, n * sizeof *s->rows);
    s->closed += n;
    s->n -= n;
}

/* Room for `need` open rows; what has no room is closed. */
static void make_room(struct series *s, uint64_t need)
{
    struct series_row *more;
    uint64_t cap = s->cap;

    while (cap < need && cap < OPEN_MAX)
        cap *= 2;
    if (cap > s->cap && (more = realloc(s->rows, cap * sizeof *more)) != NULL) {
        memset(more + s->cap, 0, (cap - s->cap) * sizeof *more);
        s->rows = more;
        s->cap = cap;
    }
    while (need > s->cap) {
        uint64_t n = u64_min(need - s->cap, s->cap);
        s->n = u64_max(s->n, n);
        close_rows(s, n);
        need -= n;
    }
}

/* Points: neighbours are added up. */
static void merge(struct series *s)
{
    for (uint64_t i = 0; i < s->n; i++) {
        struct series_row r = s->rows[i], *to = &s->rows[i / 2];
        if (i % 2 == 0) {
            s->rows[i] = (struct series_row){0};
            *to = r;
            continue;
        }
        to->busy_s += r.busy_s;
        to->running_s += r.running_s;
        to->waiting_s += r.waiting_s;
        to->used_s += r.used_s;
        to->prompt_tokens += r.prompt_tokens;
        to->output_tokens += r.output_tokens;
        to->steps += r.steps;
        s->rows[i] = (struct series_row){0};
    }
    s->n = (s->n + 1) / 2;
    s->width_s *= 2;
}

/* --- spans ----------------------------------------------------------------------------------
 */

/* The whole number of widths before t; intervals begin at multiples of the width. */
static uint64_t index_of(const struct series *s, double t)
{
    double i = (t - s->start_s) / s->width_s;

    return i < 0 ? 0 : i < 9e15 ? (uint64_t)i : (uint64_t)9e15;
}

static void start(struct series *s, double t)
{
    double i = t / s->width_s;

    s->started = true;
    s->start_s = s->points || i > 9e15 ? t : (double)(uint64_t)i * s->width_s;
}

/* Adds the part [from, to) of a span. */
static void add_part(struct series *s, struct series_row *r, const struct sim_span *span,
                     double from, double to)
{
    double whole = span->to_s - span->from_s, dt = to - from, part = dt / whole,
           mid = ((from + to) / 2 - span->from_s) / whole,
           used = (double)span->used_first_units +
                  mid * ((double)span->used_last_units - (double)span->used_first_units);

    r->busy_s += span->steps ? dt : 0;
    r->running_s += dt * (double)span->running;
    r->waiting_s += dt * span->waiting;
    r->used_s += s->units[span->replica] ? dt * used / (double)s->units[span->replica] : 0;
    r->prompt_tokens += part * (double)span->prompt_tokens;
    r->output_tokens += part * (double)span->output_tokens;
    r->steps += part * (double)span->steps;
}

void series_span(struct series *s, const struct sim_span *span)
{
    double from = span->from_s;

    if (!(span->to_s > from))
        return;
    if (!s->started)
        start(s, from);
    while (from < span->to_s) {
        uint64_t i = index_of(s, from), at;
        double to;
        while (s->points && i >= s->points - 1) { /* one is spare for what was rounded */
            merge(s);
            i = index_of(s, from);
        }
        if (s->start_s + (double)(i + 1) * s->width_s <=
            from) /* rounded down to the one before */
            i++;
        if (!s->points && i >= s->closed && i - s->closed >= s->cap)
            make_room(s, i - s->closed + 1);
        at = i < s->closed ? 0 : i - s->closed;
        if (at >= s->n)
            s->n = at + 1;
        to = s->start_s + (double)(i + 1) * s->width_s;
        if (!(to > from && to < span->to_s))
            to = span->to_s;
        add_part(s, &s->rows[at], span, from, to);
        from = to;
    }
}

void series_passed(struct series *s, double time_s)
{
    uint64_t i;

    if (s->points || !s->started)
        return;
    i = index_of(s, time_s);
    if (i > s->closed && s->n)
        close_rows(s, u64_min(i - s->closed, s->n));
}

void series_end(struct series *s)
{
    if (!s->points)
        close_rows(s, s->n);
}

const struct series_row *series_rows(const struct series *s, uint64_t *n)
{
    *n = s->n;
    return s->rows;
}

double series_interval_s(const struct series *s)
{
    return s->width_s;
}

double series_start_s(const struct series *s)
{
    return s->start_s;
}

uint32_t series_replicas(const struct series *s)
{
    return s->replicas;
}
