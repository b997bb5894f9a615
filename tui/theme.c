/* The themes: default for dark terminals, light for light ones, high-contrast, and mono, which
 * has attributes only. A meaning never rests on its colour: texts, signs and glyphs say it too.
 */
#include "tui/theme.h"

#include <string.h>

enum { B = LOOK_BOLD, D = LOOK_DIM, R = LOOK_REVERSE, U = LOOK_UNDERLINE };

static const struct theme themes[] = {
    {"default",
     "for dark backgrounds",
     {
         [ST_PLAIN] = {-1, -1, -1, -1, 0},     [ST_TITLE] = {117, -1, 14, -1, B},
         [ST_DIM] = {245, -1, 8, -1, 0},       [ST_BORDER] = {240, -1, 8, -1, 0},
         [ST_LABEL] = {250, -1, 7, -1, 0},     [ST_VALUE] = {231, -1, 15, -1, 0},
         [ST_OK] = {114, -1, 10, -1, 0},       [ST_WARN] = {221, -1, 11, -1, 0},
         [ST_BAD] = {210, -1, 9, -1, B},       [ST_SELECT] = {231, 24, 15, 4, B},
         [ST_TAG] = {222, -1, 11, -1, B},      [ST_KEY] = {117, -1, 14, -1, B},
         [ST_EDIT] = {16, 153, 0, 6, 0},       [ST_SERIES_1] = {75, -1, 12, -1, 0},
         [ST_SERIES_2] = {215, -1, 11, -1, 0}, [ST_SERIES_3] = {114, -1, 10, -1, 0},
         [ST_SERIES_4] = {176, -1, 13, -1, 0}, [ST_SERIES_5] = {80, -1, 14, -1, 0},
         [ST_SERIES_6] = {210, -1, 9, -1, 0},
     }},
    {"light",
     "for light backgrounds",
     {
         [ST_PLAIN] = {-1, -1, -1, -1, 0},    [ST_TITLE] = {25, -1, 4, -1, B},
         [ST_DIM] = {242, -1, 8, -1, 0},      [ST_BORDER] = {248, -1, 7, -1, 0},
         [ST_LABEL] = {238, -1, 0, -1, 0},    [ST_VALUE] = {16, -1, 0, -1, 0},
         [ST_OK] = {28, -1, 2, -1, 0},        [ST_WARN] = {130, -1, 3, -1, 0},
         [ST_BAD] = {124, -1, 1, -1, B},      [ST_SELECT] = {16, 153, 0, 6, B},
         [ST_TAG] = {94, -1, 3, -1, B},       [ST_KEY] = {25, -1, 4, -1, B},
         [ST_EDIT] = {231, 25, 15, 4, 0},     [ST_SERIES_1] = {25, -1, 4, -1, 0},
         [ST_SERIES_2] = {166, -1, 3, -1, 0}, [ST_SERIES_3] = {28, -1, 2, -1, 0},
         [ST_SERIES_4] = {91, -1, 5, -1, 0},  [ST_SERIES_5] = {30, -1, 6, -1, 0},
         [ST_SERIES_6] = {124, -1, 1, -1, 0},
     }},
    {"high-contrast",
     "few, strong colours on black",
     {
         [ST_PLAIN] = {231, 16, 15, 0, 0},    [ST_TITLE] = {226, 16, 11, 0, B},
         [ST_DIM] = {252, 16, 7, 0, 0},       [ST_BORDER] = {231, 16, 15, 0, 0},
         [ST_LABEL] = {231, 16, 15, 0, 0},    [ST_VALUE] = {231, 16, 15, 0, B},
         [ST_OK] = {46, 16, 10, 0, B},        [ST_WARN] = {226, 16, 11, 0, B},
         [ST_BAD] = {231, 160, 15, 1, B},     [ST_SELECT] = {16, 226, 0, 3, B},
         [ST_TAG] = {51, 16, 14, 0, B | U},   [ST_KEY] = {51, 16, 14, 0, B},
         [ST_EDIT] = {16, 231, 0, 7, B},      [ST_SERIES_1] = {51, 16, 14, 0, B},
         [ST_SERIES_2] = {226, 16, 11, 0, B}, [ST_SERIES_3] = {46, 16, 10, 0, B},
         [ST_SERIES_4] = {207, 16, 13, 0, B}, [ST_SERIES_5] = {231, 16, 15, 0, B},
         [ST_SERIES_6] = {208, 16, 9, 0, B},
     }},
    {"mono",
     "no colours: bold, underlined, reversed",
     {
         [ST_PLAIN] = {-1, -1, -1, -1, 0},    [ST_TITLE] = {-1, -1, -1, -1, B},
         [ST_DIM] = {-1, -1, -1, -1, D},      [ST_BORDER] = {-1, -1, -1, -1, 0},
         [ST_LABEL] = {-1, -1, -1, -1, 0},    [ST_VALUE] = {-1, -1, -1, -1, B},
         [ST_OK] = {-1, -1, -1, -1, 0},       [ST_WARN] = {-1, -1, -1, -1, U},
         [ST_BAD] = {-1, -1, -1, -1, B | U},  [ST_SELECT] = {-1, -1, -1, -1, R},
         [ST_TAG] = {-1, -1, -1, -1, B | U},  [ST_KEY] = {-1, -1, -1, -1, B},
         [ST_EDIT] = {-1, -1, -1, -1, R | B}, [ST_SERIES_1] = {-1, -1, -1, -1, B},
         [ST_SERIES_2] = {-1, -1, -1, -1, 0}, [ST_SERIES_3] = {-1, -1, -1, -1, D},
         [ST_SERIES_4] = {-1, -1, -1, -1, B}, [ST_SERIES_5] = {-1, -1, -1, -1, 0},
         [ST_SERIES_6] = {-1, -1, -1, -1, D},
     }},
};
enum { N_THEMES = sizeof themes / sizeof *themes };

static const char *const names[N_THEMES] = {"default", "light", "high-contrast", "mono"};

const struct theme *theme_at(size_t i)
{
    return i < N_THEMES ? &themes[i] : NULL;
}

const char *const *theme_names(size_t *n)
{
    *n = N_THEMES;
    return names;
}

const struct theme *theme_find(const char *name)
{
    for (size_t i = 0; i < N_THEMES; i++)
        if (!strcmp(themes[i].name, name))
            return &themes[i];
    return NULL;
}

/* A theme is attributes only when it has no colour for any style. */
static bool colourless(const struct theme *t)
{
    for (int s = 0; s < N_STYLES; s++)
        if (t->looks[s].fg >= 0 || t->looks[s].bg >= 0)
            return false;
    return true;
}

struct look theme_look(const struct theme *t, enum style s, int n_colours)
{
    struct look l = t->looks[s];

    if (n_colours < 8 || colourless(t)) {
        l = theme_find("mono")->looks[s];
    } else if (n_colours < 256) {
        l.fg = l.fg16;
        l.bg = l.bg16;
        if (n_colours < 16) {
            l.attr |= l.fg > 7 ? LOOK_BOLD : 0;
            l.fg = l.fg > 7 ? (int16_t)(l.fg - 8) : l.fg;
            l.bg = l.bg > 7 ? (int16_t)(l.bg - 8) : l.bg;
            /* dark grey does not exist with 8: dim text keeps the terminal's own colour */
            if (s == ST_DIM || s == ST_BORDER)
                l.fg = -1, l.attr = s == ST_DIM ? LOOK_DIM : 0;
        }
    }
    return l;
}
