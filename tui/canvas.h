/* A grid of cells that screens draw into: nothing here knows a terminal. Everything clips to
 * its rectangle; text is UTF-8, widths by wcwidth, control characters become '?', a wide
 * character that does not fit becomes a blank. A canvas in ASCII mode replaces box, bar and
 * braille glyphs (and, last, any other non-ASCII character by '?'). */
#ifndef KVBUDGET_TUI_CANVAS_H
#define KVBUDGET_TUI_CANVAS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "planner/base/arena.h"

enum style { /* meanings; tui/theme.c gives them looks */
             ST_PLAIN,
             ST_TITLE,
             ST_DIM,
             ST_BORDER,
             ST_LABEL,
             ST_VALUE,
             ST_OK,
             ST_WARN,
             ST_BAD,
             ST_SELECT, /* the line under the cursor */
             ST_TAG,    /* a tagged row */
             ST_KEY,
             ST_EDIT, /* a field being typed into */
             ST_SERIES_1,
             ST_SERIES_2,
             ST_SERIES_3,
             ST_SERIES_4,
             ST_SERIES_5,
             ST_SERIES_6,
             N_STYLES
};

struct cell {
    uint32_t cp; /* 0: the right half of a wide character */
    uint8_t style;
};
struct rect {
    int x, y, w, h;
};
struct canvas {
    struct cell *cells; /* [h * w], row by row */
    int w, h;
    bool ascii;
    int cursor_x, cursor_y; /* where the terminal's cursor belongs; -1 = hidden */
    /* storage */
    struct arena *arena;
    int room;
};

void canvas_init(struct canvas *c, struct arena *a, bool ascii);
/* Sets the size (each side at least 1, at most 1000) and blanks everything. */
void canvas_clear(struct canvas *c, int w, int h);

/* Text at (x, y) relative to `r`, clipped to it; returns the columns it takes. */
int canvas_text(struct canvas *c, struct rect r, int x, int y, enum style s, const char *text);
int canvas_textf(struct canvas *c, struct rect r, int x, int y, enum style s, const char *fmt,
                 ...) __attribute__((format(printf, 6, 7)));
/* The same, ending before column x_end of `r`. */
int canvas_right(struct canvas *c, struct rect r, int x_end, int y, enum style s,
                 const char *text);
int canvas_columns(const char *text); /* width in columns */
/* The sign that more follows, in the last column of a line whose text would end before x_end.
 */
void canvas_more(struct canvas *c, struct rect r, int x_end, int y, enum style s);
void canvas_put(struct canvas *c, struct rect r, int x, int y, enum style s, uint32_t cp);
void canvas_fill(struct canvas *c, struct rect r, enum style s, uint32_t cp);
/* Changes the style of what is there: a selected line. */
void canvas_restyle(struct canvas *c, struct rect r, enum style s);
/* A frame along the edge of r with a title in its top line; returns the inside. */
struct rect canvas_box(struct canvas *c, struct rect r, const char *title, enum style s);

/* Parts of a bar that is `width` columns for `whole`: each part gets its share, at least one
 * column when it is not 0 and there is room; glyphs differ as well as styles, so that it can be
 * read without colour. */
struct bar_part {
    double size;
    enum style style;
    uint32_t glyph; /* 0 = by its place: █ ▓ ▒ ░ ... (ASCII # = + - .) */
};
void canvas_bar(struct canvas *c, struct rect r, const struct bar_part *parts, int n,
                double whole);

/* Line plot in braille (2 x 4 dots a cell) with a mark of the series here and there, in ASCII a
 * mark a column. Axes with round ticks; values not finite, and on a logarithmic axis those not
 * positive, are gaps. A series of one point is its mark. */
struct plot_series {
    const double *x, *y;
    int n;
    enum style style;
    const char *name;
};
struct plot {
    const struct plot_series *series;
    int n_series;
    double x0, x1, y0, y1; /* of the axes */
    bool log_x, log_y;
    bool binary_x, binary_y; /* round numbers are powers of two: tokens, bytes */
    const char *x_label, *y_label;
    void (*format_x)(double v, char *buf, size_t n); /* tick labels; NULL = plain */
    void (*format_y)(double v, char *buf, size_t n);
    double cursor_x; /* a vertical line; NAN = none */
};
/* Draws into r; returns the rectangle of the dots, for mouse and cursor (w = 0: no room). */
struct rect canvas_plot(struct canvas *c, struct rect r, const struct plot *p);
uint32_t canvas_plot_mark(int series); /* its mark, for a legend */

/* The grid as text, a line a row, without trailing blanks. */
void canvas_dump(const struct canvas *c, FILE *out);

#endif
