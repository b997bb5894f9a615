/* The line editor: bytes of UTF-8, moved over by whole characters. */
#include "tui/line.h"

#include <string.h>

#include "planner/base/utf8.h"
#include "tui/glyph.h"
#include "tui/keys.h"

void line_replace(struct line *l, size_t from, size_t to, const char *text)
{
    size_t n = strlen(text);

    if (from > to || to > l->n || l->n - (to - from) + n > LINE_MAX_BYTES)
        return;
    memmove(l->text + from + n, l->text + to, l->n - to + 1);
    memcpy(l->text + from, text, n);
    l->n = l->n - (to - from) + n;
    l->at = from + n;
}

/* Too long a text is cut where a character ends. */
void line_set(struct line *l, const char *text)
{
    size_t n = strlen(text);

    if (n > LINE_MAX_BYTES)
        for (n = LINE_MAX_BYTES; n > 0 && (text[n] & 0xc0) == 0x80;)
            n--;
    memcpy(l->text, text, n);
    l->text[n] = '\0';
    utf8_clean(l->text, n);
    l->n = l->at = strlen(l->text);
}

static size_t before(const struct line *l, size_t at)
{
    if (at > 0)
        at--;
    while (at > 0 && (l->text[at] & 0xc0) == 0x80)
        at--;
    return at;
}

static size_t after(const struct line *l, size_t at)
{
    if (at < l->n)
        at++;
    while (at < l->n && (l->text[at] & 0xc0) == 0x80)
        at++;
    return at;
}

static size_t word_before(const struct line *l)
{
    size_t at = l->at;

    while (at > 0 && l->text[at - 1] == ' ')
        at--;
    while (at > 0 && l->text[at - 1] != ' ')
        at--;
    return at;
}

static bool type(struct line *l, uint32_t key)
{
    char bytes[5];

    if (key >= 0x110000 || utf8_is_control(key) || (key >= 0xd800 && key <= 0xdfff) ||
        glyph_columns(key) == 0)
        return false;
    glyph_utf8(key, bytes);
    line_replace(l, l->at, l->at, bytes);
    return true;
}

bool line_key(struct line *l, uint32_t key)
{
    switch (key) {
    case KEY_LEFT_ARROW: l->at = before(l, l->at); return true;
    case KEY_RIGHT_ARROW: l->at = after(l, l->at); return true;
    case KEY_HOME_KEY:
    case 'A' - 64: l->at = 0; return true;
    case KEY_END_KEY:
    case 'E' - 64: l->at = l->n; return true;
    case 8:
    case 127: line_replace(l, before(l, l->at), l->at, ""); return true;
    case KEY_DELETE: line_replace(l, l->at, after(l, l->at), ""); return true;
    case 'U' - 64: line_replace(l, 0, l->at, ""); return true;
    case 'K' - 64: line_replace(l, l->at, l->n, ""); return true;
    case 'W' - 64: line_replace(l, word_before(l), l->at, ""); return true;
    default: return type(l, key);
    }
}

/* Columns of the text up to the cursor. */
static int columns_before(const struct line *l)
{
    char head[LINE_MAX_BYTES + 1];

    memcpy(head, l->text, l->at);
    head[l->at] = '\0';
    return canvas_columns(head);
}

void line_view(const struct line *l, struct canvas *c, struct rect r, enum style s)
{
    struct rect row = {r.x, r.y, r.w, 1};
    int at = columns_before(l), off = at >= r.w ? at - r.w + 1 : 0;

    if (r.w < 1 || r.h < 1)
        return;
    canvas_fill(c, row, s, ' ');
    canvas_text(c, row, -off, 0, s, l->text);
    c->cursor_x = r.x + at - off;
    c->cursor_y = r.y;
}
