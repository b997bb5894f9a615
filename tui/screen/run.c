/* Run: the planned server simulated on a trace, or on requests of the spec's workload, with its
 * cache, its queue and its latencies as they come. Stepped on ticks, so keys stay live. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/live_run.h"
#include "tui/show.h"
#include "tui/ui.h"

enum { EVENTS_LEAST = 60, EVENTS_MOST = 4000, FIGURE_LINES = 6, SIDE_W = 120, N_CHARTS = 3 };
#define TICK_S (1.0 / 30)
#define LONGEST_TICK_S 0.25

struct run_speed {
    double factor; /* seconds of the trace a second */
    const char *name;
};
static const struct run_speed speeds[] = {{1, "x1"},     {4, "x4"},
                                          {15, "x15"},   {60, "x60"},
                                          {240, "x240"}, {INFINITY, "as fast as it goes"}};
enum { N_SPEEDS = sizeof speeds / sizeof *speeds, FIRST_SPEED = 2 };

struct run_state {
    struct arena *arena; /* of one run */
    struct live *live;
    const char *error; /* why there is none; NULL */
    bool started, paused;
    uint64_t generation;
    int speed;
    double load;   /* factor on the rate */
    double per_s;  /* of synthetic requests, before `load` */
    double tick_s; /* of the last tick; 0 = none yet */
    double until_s;
    uint64_t events; /* that a tick may run: fewer where ticks come late */
    struct live_now now;
    struct live_points points;
    int n_points;
};

/* --- starting --------------------------------------------------------------------------- */

/* Seven tenths of what the plan could serve without queueing, two digits. */
static double comfortable_rate(const struct session *s)
{
    const struct plan *p = &s->plan;
    double prompt_s = p->batch ? p->prefill_s / (double)p->batch : 0;
    double request_s = prompt_s;
    double digits;

    if (p->tokens_per_s > 0)
        request_s += (double)s->problem.workload.output / p->tokens_per_s;
    if (!(request_s > 0))
        return 1;
    digits = pow(10, floor(log10(0.7 / request_s)) - 1);
    return floor(0.7 / request_s / digits + 0.5) * digits;
}

static const char *first_error(const struct diag *d)
{
    for (size_t i = 0; i < diag_count(d); i++)
        if (diag_at(d, i)->kind >= DIAG_USAGE)
            return diag_at(d, i)->text;
    return "it cannot be run";
}

static void look(struct run_state *st)
{
    live_look(st->live, &st->now);
    st->n_points = live_points(st->live, &st->points);
}

static void restart(struct ui *ui, struct run_state *st)
{
    struct session *s = ui_session(ui);
    struct arena *old = st->arena;
    struct problem *p;
    struct diag *d;
    struct live_in in = {.trace = ui_option(ui, "trace"),
                         .trace_format = ui_option(ui, "trace-format"),
                         .scale = st->load};

    live_free(st->live);
    st->live = NULL;
    st->error = NULL;
    st->arena = arena_new();
    st->until_s = st->tick_s = 0;
    st->events = EVENTS_LEAST;
    st->n_points = 0;
    st->now = (struct live_now){0};
    st->generation = s->generation;
    p = ARENA_NEW(st->arena, struct problem, 1);
    d = diag_new(st->arena);
    if (!s->planned || !session_variant(s, st->arena, NULL, 0, p, &st->error)) {
        st->error = s->planned ? "the spec cannot be planned as it is" : "nothing is planned";
    } else {
        st->per_s = comfortable_rate(s);
        in.problem = p;
        in.per_s = st->per_s * st->load;
        st->live = live_new(st->arena, &in, d);
        if (!st->live)
            st->error = first_error(d);
        else
            look(st);
    }
    arena_free(old);
}

static void refresh(struct ui *ui, struct run_state *st)
{
    if (st->started && st->generation == ui_session(ui)->generation)
        return;
    if (!st->started) {
        st->speed = FIRST_SPEED;
        st->load = 1;
    }
    st->started = true;
    restart(ui, st);
}

static void prepare(struct ui *ui, void *state, struct rect area)
{
    (void)area;
    refresh(ui, state);
}

/* --- running ---------------------------------------------------------------------------- */

/* As many events as leave the next tick on time. */
static void fit_events(struct run_state *st, double passed_s)
{
    if (passed_s > 2 * TICK_S && st->events > EVENTS_LEAST)
        st->events /= 2;
    else if (passed_s < 1.5 * TICK_S && st->events < EVENTS_MOST)
        st->events *= 2;
}

static double tick(struct ui *ui, void *state, double now_s)
{
    struct run_state *st = state;
    double passed_s;

    refresh(ui, st);
    if (!st->live || st->paused || st->now.ended) {
        st->tick_s = 0;
        return 0;
    }
    passed_s = st->tick_s > 0 ? now_s - st->tick_s : TICK_S;
    st->tick_s = now_s;
    st->until_s +=
        (passed_s < LONGEST_TICK_S ? passed_s : LONGEST_TICK_S) * speeds[st->speed].factor;
    fit_events(st, passed_s);
    live_run(st->live, st->until_s, st->events);
    look(st);
    if (st->until_s > st->now.time_s + speeds[st->speed].factor)
        st->until_s = st->now.time_s; /* it cannot go as fast: do not save it up */
    return st->now.ended ? 0 : TICK_S;
}

static void step(struct run_state *st)
{
    st->paused = true;
    live_run(st->live, INFINITY, 1);
    look(st);
    st->until_s = st->now.time_s;
}

static void change_speed(struct run_state *st, int by)
{
    int to = st->speed + by;

    if (to < 0 || to >= N_SPEEDS)
        return;
    st->speed = to;
    st->until_s = st->now.time_s;
}

/* '+' and '-' are the speed of the clock, the arrows the rate of the requests. */
static bool change(struct ui *ui, struct run_state *st, enum action a, const struct event *e)
{
    int by = a == ACT_MORE ? 1 : -1;
    double load = by > 0 ? st->load * 1.25 : st->load / 1.25;

    if (e && (e->key == '+' || e->key == '-' || e->key == '=')) {
        change_speed(st, by);
        return true;
    }
    if (load < 1e-3 || load > 1e3)
        return true;
    st->load = fabs(load - 1) < 1e-9 ? 1 : load;
    restart(ui, st);
    return true;
}

static bool act(struct ui *ui, void *state, enum action a, const struct event *e)
{
    struct run_state *st = state;

    refresh(ui, st);
    if (a == ACT_RESTART) {
        restart(ui, st);
        ui_say(ui, ST_DIM, "from its start");
        return true;
    }
    if (!st->live)
        return false;
    switch (a) {
    case ACT_PAUSE:
    case ACT_OPEN: st->paused = !st->paused; break;
    case ACT_STEP: step(st); break;
    case ACT_LESS:
    case ACT_MORE: return change(ui, st, a, e);
    default: return false;
    }
    return true;
}

/* --- drawing ---------------------------------------------------------------------------- */

static void tick_share(double v, char *buf, size_t n)
{
    snprintf(buf, n, "%.0f%%", 100 * v);
}

static double highest(const double *v, int n)
{
    double most = 0;

    for (int i = 0; i < n; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}

/* One or two series over the time so far. */
static void view_chart(const struct run_state *st, struct canvas *c, struct rect r,
                       const char *label, const double *const y[2])
{
    struct plot_series series[2];
    struct plot p = {.series = series,
                     .x1 = st->now.time_s > 1 ? st->now.time_s : 1,
                     .y1 = 1,
                     .y_label = label,
                     .format_x = show_tick_seconds,
                     .format_y = y[0] == st->points.used_share ? tick_share : show_tick_count,
                     .cursor_x = NAN};

    for (int i = 0; i < 2 && y[i]; i++) {
        double most = 1.1 * highest(y[i], st->n_points);
        series[i] = (struct plot_series){.x = st->points.time_s,
                                         .y = y[i],
                                         .n = st->n_points,
                                         .style = i ? ST_SERIES_2 : ST_SERIES_1};
        p.n_series++;
        p.y1 = most > p.y1 && y[i] != st->points.used_share ? most : p.y1;
    }
    canvas_plot(c, r, &p);
}

static void view_charts(const struct run_state *st, struct canvas *c, struct rect r)
{
    char queue[64];
    const double *const used[2] = {st->points.used_share, NULL};
    const double *const both[2] = {st->points.running, st->points.waiting};
    const double *const output[2] = {st->points.output_per_s, NULL};
    bool side = r.w >= SIDE_W;
    int w = side ? r.w / N_CHARTS : r.w / 2;
    struct rect at = {r.x, r.y, w - 1, r.h};

    snprintf(queue, sizeof queue, "sequences: \u25cf running \u25a0 waiting");
    view_chart(st, c, at, "cache in use", used);
    at.x += w;
    view_chart(st, c, at, queue, both);
    at.x += w;
    if (side)
        view_chart(st, c, at, "output tokens/s", output);
}

static void view_times(const struct run_state *st, struct canvas *c, struct rect r)
{
    static const char *const names[LIVE_TIMES] = {"first token", "a token", "whole request"};
    char buf[SHOW_TEXT];

    canvas_text(c, r, 0, 0, ST_LABEL, "latency");
    canvas_right(c, r, 26, 0, ST_LABEL, "half below");
    canvas_right(c, r, 38, 0, ST_LABEL, "99 % below");
    for (int i = 0; i < LIVE_TIMES; i++) {
        canvas_text(c, r, 0, i + 1, ST_PLAIN, names[i]);
        if (!st->now.times[i].n)
            continue;
        canvas_right(c, r, 26, i + 1, ST_VALUE, show_seconds(st->now.times[i].p50, buf));
        canvas_right(c, r, 38, i + 1, ST_VALUE, show_seconds(st->now.times[i].p99, buf));
    }
}

static void view_figures(const struct run_state *st, struct canvas *c, struct rect r)
{
    const struct live_now *n = &st->now;
    char a[SHOW_TEXT], b[SHOW_TEXT];

    canvas_textf(c, r, 0, 0, ST_PLAIN, "%s running, %s waiting", show_count(n->running, a),
                 show_count(n->waiting, b));
    canvas_textf(c, r, 0, 1, ST_PLAIN, "%s done, %s turned away", show_count(n->done, a),
                 show_count(n->rejected, b));
    canvas_textf(c, r, 0, 2, n->preemptions ? ST_WARN : ST_PLAIN, "%s preemptions",
                 show_count(n->preemptions, a));
    canvas_textf(c, r, 0, 3, ST_PLAIN, "%s tokens/s, %s requests/s",
                 show_per_s(n->output_tokens_per_s, a), show_per_s(n->requests_per_s, b));
    canvas_textf(c, r, 0, 4, ST_PLAIN, "cache %.0f %% in use, %.0f %% at most",
                 100 * n->used_share, 100 * n->used_peak);
}

static void view_progress(const struct run_state *st, struct canvas *c, struct rect line)
{
    struct bar_part part = {st->now.read_share, ST_OK, 0};

    if (st->now.read_share < 0 || line.w < 8)
        return;
    canvas_bar(c, (struct rect){line.x, line.y, line.w - 6, 1}, &part, 1, 1);
    canvas_textf(c, line, line.w - 5, 0, ST_PLAIN, "%3.0f %%", 100 * st->now.read_share);
}

static void view_head(const struct run_state *st, struct canvas *c, struct rect line)
{
    const char *slash = strrchr(st->now.source, '/');
    char time[SHOW_TEXT];
    int x;

    x = canvas_text(c, line, 1, 0,
                    st->now.ended ? ST_OK
                    : st->paused  ? ST_WARN
                                  : ST_TITLE,
                    st->now.ended ? "finished"
                    : st->paused  ? "paused"
                                  : "running");
    x += canvas_textf(c, line, 1 + x, 0, ST_PLAIN, " at %s of %s, rate x%.3g, clock %s",
                      show_seconds(st->now.time_s, time), slash ? slash + 1 : st->now.source,
                      st->load, speeds[st->speed].name);
    view_progress(st, c, (struct rect){line.x + 2 + x, line.y, line.w - x - 3, 1});
}

/* Text over several lines, broken at blanks. */
static void view_wrapped(struct canvas *c, struct rect r, enum style s, const char *text)
{
    for (int y = 0; *text && y < r.h; y++) {
        size_t n = strlen(text), w = r.w > 1 ? (size_t)r.w : 1;
        if (n > w)
            for (n = w; n > 0 && text[n] != ' ';)
                n--;
        n = n ? n : w;
        canvas_textf(c, r, 0, y, s, "%.*s", (int)n, text);
        text += n;
        text += *text == ' ';
    }
}

static void view(const struct ui *ui, const void *state, struct canvas *c, struct rect area)
{
    const struct run_state *st = state;
    struct rect line = {area.x, area.y, area.w, 1}, foot;

    (void)ui;
    if (!st->live) {
        area = (struct rect){area.x + 1, area.y, area.w - 2, area.h};
        view_wrapped(c, area, ST_WARN, st->error ? st->error : "it cannot be run");
        return;
    }
    view_head(st, c, line);
    view_charts(st, c, (struct rect){area.x, area.y + 1, area.w, area.h - 1 - FIGURE_LINES});
    foot = (struct rect){area.x + 1, area.y + area.h - FIGURE_LINES, area.w - 1, FIGURE_LINES};
    view_times(st, c, foot);
    foot.x += 42;
    foot.w -= 42;
    view_figures(st, c, foot);
    line.y = area.y + area.h - 1;
    canvas_textf(c, line, 1, 0, ST_DIM,
                 "scheduler %s, %u replica%s; Left Right the rate, - + the clock",
                 st->now.policy, st->now.replicas, st->now.replicas == 1 ? "" : "s");
}

static void free_state(void *state)
{
    struct run_state *st = state;

    live_free(st->live);
    arena_free(st->arena);
}

const struct screen screen_run = {
    .id = "run",
    .title = "Run",
    .summary = "the planned server simulated, with its cache, queue and latencies",
    .order = 6,
    .state_size = sizeof(struct run_state),
    .prepare = prepare,
    .view = view,
    .act = act,
    .tick = tick,
    .free = free_state,
};
