/* A line of text that is typed into: commands, questions, values in place. */
#ifndef KVBUDGET_TUI_LINE_H
#define KVBUDGET_TUI_LINE_H

#include "tui/canvas.h"

enum { LINE_MAX_BYTES = 1024 };

struct line {
    char text[LINE_MAX_BYTES + 1]; /* UTF-8 */
    size_t n;                      /* bytes */
    size_t at;                     /* the cursor, a byte between characters */
};

void line_set(struct line *l, const char *text); /* the cursor at the end */
/* Left Right Home End Backspace Delete, Ctrl-A E U K W, characters. False: not one of these. */
bool line_key(struct line *l, uint32_t key);
/* Replaces what lies between two bytes, for completion; the cursor behind it. */
void line_replace(struct line *l, size_t from, size_t to, const char *text);
/* Shows it in the first row of r, scrolled so that the cursor is seen, and sets the cursor. */
void line_view(const struct line *l, struct canvas *c, struct rect r, enum style s);

#endif
