/* Help, made from the table of keys, and the settings. */
#include <string.h>

#include "tui/ui_parts.h"

static char *append(struct ui *ui, const char *text, const struct key_row *r)
{
    return arena_printf(ui->scratch, "%s  %-18s %s\n", text, r->keys, r->help);
}

void ui_help(struct ui *ui)
{
    const struct ui_screen *s = ui_active(ui);
    const char *id = ui_screen(ui), *text = "";
    bool own = false;

    if (s)
        text = arena_printf(ui->scratch, "%s\n\n", s->type->summary);
    for (size_t i = 0; keys_at(i); i++) {
        if (!keys_at(i)->help || !keys_at(i)->screens || !keys_for(keys_at(i), id))
            continue;
        text = append(ui, text, keys_at(i));
        own = true;
    }
    if (own)
        text = arena_printf(ui->scratch, "%s\nEverywhere\n", text);
    for (size_t i = 0; keys_at(i); i++)
        if (keys_at(i)->help && !keys_at(i)->screens)
            text = append(ui, text, keys_at(i));
    text =
        arena_printf(ui->scratch,
                     "%s\nMouse\n  A click chooses, a second one opens; the wheel moves three "
                     "rows; tabs and the keys in the last line can be clicked.\n",
                     text);
    ui_page(ui, s ? arena_printf(ui->scratch, "Keys of %s", s->type->title) : "Keys", text);
}

/* --- settings --------------------------------------------------------------------------------
 */

static void chosen(struct ui *ui, void *to, const char *text)
{
    size_t n;
    const char *const *themes = theme_names(&n);

    (void)to;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(themes[i], text))
            ui->theme = theme_at(i);
    if (!strcmp(text, "ASCII characters"))
        ui_set_ascii(ui);
    if (!strcmp(text, "UTF-8 characters") && ui->options.ascii)
        ui_say(ui, ST_WARN, "this terminal or --ascii asks for ASCII");
    else if (!strcmp(text, "UTF-8 characters"))
        ui->ascii = ui->ascii_chosen = false;
}

void ui_settings(struct ui *ui)
{
    size_t n;
    const char *const *themes = theme_names(&n);
    const char **items = ARENA_NEW(ui->scratch, const char *, n + 2);
    const char **notes = ARENA_NEW(ui->scratch, const char *, n + 2);

    for (size_t i = 0; i < n; i++) {
        bool here = theme_at(i) == ui->theme;
        items[i] = themes[i];
        notes[i] =
            arena_printf(ui->scratch, "theme %s%s", theme_at(i)->summary, here ? " (now)" : "");
    }
    items[n] = "UTF-8 characters";
    notes[n] = ui->ascii ? "lines, blocks and braille" : "lines, blocks and braille (now)";
    items[n + 1] = "ASCII characters";
    notes[n + 1] = ui->ascii ? "for terminals without (now)" : "for terminals without";
    ui_pick(ui, "Settings", items, notes, n + 2, ui->theme->name, chosen, NULL);
}
