/* Layers: who keeps K/V, who reads whom, and what each layer holds. The last layer is at the
 * top, as networks are drawn, so that what reads above points up. */
#include <stdio.h>
#include <string.h>

#include "tui/layer_map.h"
#include "tui/show.h"
#include "tui/ui.h"

enum { HEAD_LINES = 3, DETAIL_LINES = 3, WIDE_W = 110, WHEEL_ROWS = 3 };

enum layer_bar { BAR_BYTES, BAR_TOKENS, N_BARS };

struct layer_line { /* of the screen: a stream of layers first..last */
    uint32_t first, last;
    const struct layer_cell *cell;
};

struct layers_state {
    struct arena *arena;
    uint64_t generation;
    bool started, planned;
    struct layer_map map;
    bool *open;       /* [n_layers] runs opened one by one, by their first layer */
    bool fold, asked; /* runs are one line; the user has said so */
    struct layer_line *lines;
    int n_lines, at, top;
    enum layer_bar bar;
    struct rect body;
    const char *title;
};

/* --- state ------------------------------------------------------------------------------ */

/* The lines from the last layer down. */
static void lay_out(struct layers_state *st)
{
    const struct layer_map *m = &st->map;

    st->n_lines = 0;
    for (uint32_t next = 0; next < m->n_layers;) {
        uint32_t first = next,
                 last = st->fold && !st->open[first] ? layer_map_run(m, first) : first;
        for (int i = m->start[last + 1] - 1; i >= m->start[last]; i--)
            st->lines[st->n_lines++] = (struct layer_line){first, last, &m->cells[i]};
        next = last + 1;
    }
    for (int i = 0, j = st->n_lines - 1; i < j; i++, j--) {
        struct layer_line swap = st->lines[i];
        st->lines[i] = st->lines[j];
        st->lines[j] = swap;
    }
}

static void keep_in_range(struct layers_state *st)
{
    int h = st->body.h > 0 ? st->body.h : 1;

    st->at = st->at >= st->n_lines ? st->n_lines - 1 : st->at;
    st->at = st->at < 0 ? 0 : st->at;
    st->top = st->top > st->n_lines - h ? st->n_lines - h : st->top;
    st->top = st->top < 0 ? 0 : st->top;
    st->top = st->at < st->top ? st->at : st->top;
    st->top = st->at >= st->top + h ? st->at - h + 1 : st->top;
}

/* Lays the lines out anew; the cursor stays on its layer. */
static void fold(struct layers_state *st)
{
    uint32_t layer = st->n_lines ? st->lines[st->at].last : UINT32_MAX;

    lay_out(st);
    for (int i = st->n_lines - 1; i >= 0 && layer != UINT32_MAX; i--)
        if (layer >= st->lines[i].first && layer <= st->lines[i].last)
            st->at = i;
    keep_in_range(st);
}

static const char *title_of(struct arena *a, const struct problem *p)
{
    const struct layout *l = &p->layout;

    return arena_printf(
        a, "%u of %u attention layers keep K/V; sharing %s, eviction %s, stored as %s",
        layout_kv_layers(l), layout_attention_layers(l), l->sharing, l->retention, l->storage);
}

static void refresh(struct ui *ui, struct layers_state *st)
{
    struct session *s = ui_session(ui);
    struct arena *old = st->arena;
    bool again = st->started;

    if (again && st->generation == s->generation)
        return;
    st->arena = arena_new();
    st->started = true;
    st->generation = s->generation;
    st->planned = s->planned;
    st->n_lines = 0;
    st->map = (struct layer_map){0};
    if (st->planned) {
        layer_map_build(st->arena, &s->problem, &st->map);
        st->title = title_of(st->arena, &s->problem);
        if (!again)
            st->bar =
                s->problem.layout.retention && strcmp(s->problem.layout.retention, "none") != 0
                    ? BAR_TOKENS
                    : BAR_BYTES;
    }
    st->open = ARENA_NEW(st->arena, bool, st->map.n_layers + 1);
    st->lines = ARENA_NEW(st->arena, struct layer_line, (size_t)st->map.n_cells + 1);
    fold(st);
    arena_free(old);
}

static void prepare(struct ui *ui, void *state, struct rect area)
{
    struct layers_state *st = state;
    int head = HEAD_LINES, h;

    refresh(ui, st);
    h = area.h - head - DETAIL_LINES;
    st->body = (struct rect){area.x, area.y + head, area.w, h > 1 ? h : 1};
    if (!st->asked && st->fold != (st->map.n_cells > st->body.h)) {
        st->fold = !st->fold;
        fold(st);
    }
    keep_in_range(st);
}

/* --- drawing ---------------------------------------------------------------------------- */

/* Where the columns stand in a body w columns wide; a width of 0: not shown. */
struct columns {
    int lanes, mixer, reads, heads, format, tokens, tokens_bar, bytes, bytes_bar;
};

static struct columns columns_of(const struct layers_state *st, int w)
{
    struct columns k = {.lanes = 8};
    int x = k.lanes + (st->map.n_lanes ? 2 * st->map.n_lanes + 1 : 0), rest;

    k.mixer = x;
    k.reads = k.mixer + 10;
    k.heads = k.reads + 11;
    k.format = k.heads + 8;
    k.tokens = k.format + (w >= WIDE_W ? 16 : 9);
    rest = w - k.tokens - 1;
    if (w >= WIDE_W) {
        k.tokens_bar = k.tokens + 9;
        k.bytes = k.tokens_bar + (rest - 22) / 2 + 1;
        k.bytes_bar = k.bytes + 11;
    } else if (st->bar == BAR_TOKENS) {
        k.tokens_bar = k.tokens + 9;
    } else {
        k.bytes = k.tokens;
        k.tokens = 0;
        k.bytes_bar = k.bytes + 11;
    }
    return k;
}

static uint32_t mark_glyph(enum layer_mark m)
{
    switch (m) {
    case MARK_OWNS: return 0x25cf;
    case MARK_READS_ABOVE: return 0x25b2;
    case MARK_READS_BELOW: return 0x25bc;
    case MARK_PASSES: return 0x2502;
    case MARK_NONE: break;
    }
    return ' ';
}

static void view_lanes(const struct layers_state *st, struct canvas *c, struct rect line,
                       const struct layer_line *l)
{
    for (int k = 0; k < st->map.n_lanes; k++) {
        enum layer_mark m = layer_map_mark(&st->map, k, l->first, l->last);
        enum style s = (enum style)(ST_SERIES_1 + k % 6);
        if (!l->cell->first && m != MARK_NONE && m != MARK_PASSES)
            m = MARK_PASSES;
        if (m != MARK_NONE)
            canvas_put(c, line, 2 * k, 0, s, mark_glyph(m));
    }
}

static void reads_text(const struct layer_line *l, char *buf, size_t n)
{
    const struct layer_cell *c = l->cell;

    if (c->letter == 's' || c->letter == '.')
        snprintf(buf, n, "-");
    else if (c->reads == c->layer)
        snprintf(buf, n, "itself");
    else
        snprintf(buf, n, "L%u %s", c->reads + 1, c->reads > c->layer ? "above" : "below");
}

static void view_bar(struct canvas *c, struct rect r, double v, double most, enum style s,
                     uint32_t glyph)
{
    struct bar_part part = {v, s, glyph};

    if (r.w > 0 && most > 0)
        canvas_bar(c, r, &part, 1, most);
}

static void view_sizes(const struct layers_state *st, struct canvas *c, struct rect line,
                       const struct layer_cell *cell, const struct columns *k)
{
    char buf[SHOW_TEXT];
    int to = k->bytes > k->tokens_bar ? k->bytes - 1 : line.w - 1;

    if (k->tokens && cell->kept_tokens) {
        canvas_right(c, line, k->tokens + 8, 0, ST_VALUE, show_count(cell->kept_tokens, buf));
        view_bar(c, (struct rect){line.x + k->tokens_bar, line.y, to - k->tokens_bar, 1},
                 (double)cell->kept_tokens, (double)st->map.most_tokens, ST_SERIES_1, 0x2592);
    }
    if (k->bytes && cell->bytes) {
        canvas_right(c, line, k->bytes + 10, 0, ST_VALUE, show_bytes(cell->bytes, buf));
        view_bar(c, (struct rect){line.x + k->bytes_bar, line.y, line.w - 1 - k->bytes_bar, 1},
                 (double)cell->bytes, (double)st->map.most_bytes, ST_SERIES_2, 0);
    }
}

static void view_line(const struct layers_state *st, struct canvas *c, struct rect line,
                      const struct layer_line *l, const struct columns *k)
{
    const struct layer_cell *cell = l->cell;
    bool reader = cell->letter == '<' || cell->letter == '>';
    enum style s = reader ? ST_DIM : ST_PLAIN;
    char buf[64];

    if (cell->first && l->first == l->last)
        canvas_textf(c, line, 0, 0, ST_LABEL, "%4u", l->first + 1);
    else if (cell->first)
        canvas_textf(c, line, 0, 0, ST_LABEL, "%u-%u", l->first + 1, l->last + 1);
    view_lanes(st, c, (struct rect){line.x + k->lanes, line.y, k->mixer - k->lanes, 1}, l);
    canvas_text(c, (struct rect){line.x, line.y, k->reads - 1, 1}, k->mixer, 0, s, cell->mixer);
    reads_text(l, buf, sizeof buf);
    canvas_text(c, line, k->reads, 0, s, buf);
    canvas_text(c, line, k->heads, 0, s, cell->heads);
    canvas_text(c, (struct rect){line.x, line.y, (k->tokens ? k->tokens : k->bytes) - 1, 1},
                k->format, 0, s, cell->format);
    view_sizes(st, c, line, cell, k);
}

/* A letter a layer from the first on, as `kvbudget layers` draws it. */
static void view_strip(const struct layers_state *st, struct canvas *c, struct rect line)
{
    const struct layer_map *m = &st->map;
    int x = canvas_text(c, line, 0, 0, ST_LABEL, "map 1 ");

    for (uint32_t i = 0; i < m->n_layers && x < line.w - 1; i++, x++) {
        char letter = m->cells[m->start[i]].letter;
        enum style s = letter == '>'   ? ST_SERIES_1
                       : letter == '<' ? ST_SERIES_2
                       : letter == 's' ? ST_SERIES_3
                                       : ST_VALUE;
        canvas_put(c, line, x, 0, s, (uint32_t)(unsigned char)letter);
    }
    if ((int)m->n_layers > line.w - 7)
        canvas_put(c, line, line.w - 1, 0, ST_DIM, 0x2026);
}

static void view_legend(const struct layers_state *st, struct canvas *c, struct rect line)
{
    static const char *const words[] = {"# keeps K/V",   "w keeps a window", "< reads below",
                                        "> reads above", "s state",          ". neither"};
    int x = 0;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        bool seen = false;
        for (int k = 0; k < st->map.n_cells && !seen; k++)
            seen = st->map.cells[k].letter == words[i][0];
        if (seen)
            x += canvas_text(c, line, x, 0, ST_DIM, words[i]) + 2;
    }
    if (st->map.n_lanes)
        canvas_text(c, line, x, 0, ST_DIM,
                    "\u25cf is read by \u25b2 from below, \u25bc from above");
}

static void view_titles(struct canvas *c, struct rect line, const struct columns *k)
{
    canvas_text(c, line, 0, 0, ST_TITLE, "layer");
    canvas_text(c, line, k->mixer, 0, ST_TITLE, "mixer");
    canvas_text(c, line, k->reads, 0, ST_TITLE, "reads");
    canvas_text(c, line, k->heads, 0, ST_TITLE, "q/kv");
    canvas_text(c, line, k->format, 0, ST_TITLE, "format");
    if (k->tokens)
        canvas_right(c, line, k->tokens + 8, 0, ST_TITLE, "tokens");
    if (k->bytes)
        canvas_right(c, line, k->bytes + 10, 0, ST_TITLE, "bytes");
    canvas_text(c, line, k->tokens_bar > k->bytes_bar ? k->tokens_bar : k->bytes_bar, 0, ST_DIM,
                "after the prompt");
}

/* The layer under the cursor in words. */
static void view_detail(const struct layers_state *st, struct canvas *c, struct rect r)
{
    const struct layer_line *l = &st->lines[st->at];
    const struct layer_cell *cell = l->cell;
    char kept[SHOW_TEXT], bytes[SHOW_TEXT], token[SHOW_TEXT], reads[64];
    int x;

    reads_text(l, reads, sizeof reads);
    x = canvas_textf(c, r, 0, 0, ST_TITLE, l->first == l->last ? "layer %u" : "layers %u-%u",
                     l->first + 1, l->last + 1);
    x += canvas_textf(c, r, x, 0, ST_PLAIN, ": %s, reads %s", cell->mixer, reads);
    if (*cell->heads)
        x += canvas_textf(c, r, x, 0, ST_PLAIN, ", heads %s of %s", cell->heads, cell->dims);
    if (cell->window_tokens)
        canvas_textf(c, r, x, 0, ST_PLAIN, ", window %s",
                     show_count(cell->window_tokens, kept));
    x = canvas_textf(c, r, 0, 1, ST_PLAIN, "%u prefill pass%s%s", cell->passes,
                     cell->passes == 1 ? "" : "es", cell->skipped ? " of the last token" : "");
    if (cell->kept_tokens)
        x += canvas_textf(c, r, x, 1, ST_PLAIN, ", sees %s tokens of the prompt",
                          show_count(cell->kept_tokens, kept));
    if (cell->bytes)
        canvas_textf(c, r, x, 1, ST_PLAIN, ", %s%s, %s a token more",
                     l->first == l->last ? "" : "each ", show_bytes(cell->bytes, bytes),
                     show_bytes(cell->token_bytes, token));
}

static void view(const struct ui *ui, const void *state, struct canvas *c, struct rect area)
{
    const struct layers_state *st = state;
    struct columns k = columns_of(st, area.w);
    struct rect line = {area.x, area.y, area.w, 1}, foot;

    (void)ui;
    if (!st->n_lines) {
        canvas_text(c, line, 0, 0, ST_DIM, "nothing is planned");
        return;
    }
    canvas_text(c, line, 0, 0, ST_TITLE, st->title);
    line.y++;
    view_strip(st, c, line);
    line.y++;
    view_titles(c, line, &k);
    for (int i = 0; i < st->body.h && st->top + i < st->n_lines; i++) {
        line.y = st->body.y + i;
        view_line(st, c, line, &st->lines[st->top + i], &k);
        if (st->top + i == st->at)
            canvas_restyle(c, line, ST_SELECT);
    }
    foot = (struct rect){area.x, st->body.y + st->body.h, area.w, DETAIL_LINES};
    view_legend(st, c, (struct rect){foot.x, foot.y, foot.w, 1});
    foot.y++;
    foot.h--;
    view_detail(st, c, foot);
}

/* --- actions ---------------------------------------------------------------------------- */

static bool move(struct layers_state *st, enum action a)
{
    int page = st->body.h > 1 ? st->body.h - 1 : 1;

    switch (a) {
    case ACT_UP: st->at--; break;
    case ACT_DOWN: st->at++; break;
    case ACT_PAGE_UP: st->at -= page; break;
    case ACT_PAGE_DOWN: st->at += page; break;
    case ACT_FIRST: st->at = 0; break;
    case ACT_LAST: st->at = st->n_lines - 1; break;
    default: return false;
    }
    keep_in_range(st);
    return true;
}

static bool act_mouse(struct layers_state *st, const struct event *e)
{
    int y = e->y - st->body.y;

    if (e->button == MOUSE_WHEEL_UP || e->button == MOUSE_WHEEL_DOWN)
        st->at += e->button == MOUSE_WHEEL_UP ? -WHEEL_ROWS : WHEEL_ROWS;
    else if (y >= 0 && y < st->body.h)
        st->at = st->top + y;
    else
        return false;
    keep_in_range(st);
    return true;
}

/* Opens the run under the cursor, or folds the open one it belongs to. */
static void open_run(struct layers_state *st)
{
    uint32_t first = st->n_lines ? st->lines[st->at].first : 0, from = 0;

    if (!st->n_lines)
        return;
    st->asked = true;
    if (!st->fold) {
        st->fold = true;
        fold(st);
        return;
    }
    for (uint32_t last; (last = layer_map_run(&st->map, from)) < first;)
        from = last + 1;
    for (uint32_t i = from, last = layer_map_run(&st->map, from); i <= last; i++)
        st->open[i] = !st->open[i];
    fold(st);
}

static bool act(struct ui *ui, void *state, enum action a, const struct event *e)
{
    struct layers_state *st = state;

    refresh(ui, st);
    if (e && e->kind == EVENT_MOUSE)
        return act_mouse(st, e);
    if (a == ACT_FOLD) {
        st->fold = !st->fold;
        st->asked = true;
        memset(st->open, 0, st->map.n_layers * sizeof *st->open);
        fold(st);
    } else if (a == ACT_OPEN) {
        open_run(st);
    } else if (a == ACT_MODE) {
        st->bar = (st->bar + 1) % N_BARS;
    } else {
        return move(st, a);
    }
    return true;
}

static const char *why(const struct ui *ui, const void *state)
{
    (void)ui;
    (void)state;
    return "cache.bytes_per_token";
}

static void free_state(void *state)
{
    arena_free(((struct layers_state *)state)->arena);
}

const struct screen screen_layers = {
    .id = "layers",
    .title = "Layers",
    .summary = "which layers keep K/V, who reads them, what each holds",
    .order = 3,
    .state_size = sizeof(struct layers_state),
    .prepare = prepare,
    .view = view,
    .act = act,
    .why = why,
    .free = free_state,
};
