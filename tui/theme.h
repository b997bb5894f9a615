/* Looks for the meanings of tui/canvas.h. A theme is a row per style; colours are indices of
 * the xterm palette, a second choice for terminals with 16 or 8, and attributes that carry the
 * difference where there are none. */
#ifndef KVBUDGET_TUI_THEME_H
#define KVBUDGET_TUI_THEME_H

#include "tui/canvas.h"

enum { LOOK_BOLD = 1, LOOK_DIM = 2, LOOK_REVERSE = 4, LOOK_UNDERLINE = 8 };

struct look {
    int16_t fg, bg;     /* of 256; -1 = the terminal's own */
    int16_t fg16, bg16; /* of 16 */
    uint8_t attr;       /* LOOK_* bits */
};

struct theme {
    const char *name, *summary;
    struct look looks[N_STYLES];
};

const struct theme *theme_at(size_t i);           /* NULL past the end; the first = default */
const struct theme *theme_find(const char *name); /* NULL = there is none */
const char *const *theme_names(size_t *n);        /* for lists */
/* The look of a style on a terminal with so many colours (0 = none), as fg, bg and attr. With
 * 8, a bright colour is the plain one in bold. */
struct look theme_look(const struct theme *t, enum style s, int n_colours);

#endif
