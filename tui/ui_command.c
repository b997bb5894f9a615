/* Commands after ':': a table of words, the screens, and every knob and key of the spec. */
#include <string.h>
#include <strings.h>

#include "planner/plan/spec.h"
#include "tui/knobs.h"
#include "tui/session_in.h"
#include "tui/ui_parts.h"
#include "tui/why.h"

struct command_word {
    const char *name, *args, *help;
    void (*run)(struct ui *ui, const char *rest);
};

static void set_theme(struct ui *ui, const char *rest)
{
    const struct theme *t = theme_find(rest);

    if (t)
        ui->theme = t;
    else
        ui_say(ui, ST_BAD, "there is no theme '%s': default, light, high-contrast or mono",
               rest);
}

static void set_characters(struct ui *ui, const char *rest)
{
    if (!strcmp(rest, "ascii") || (!strcmp(rest, "utf-8") && !ui->options.ascii))
        ui->ascii = ui->ascii_chosen = *rest == 'a';
    else if (!strcmp(rest, "utf-8"))
        ui_say(ui, ST_WARN, "this terminal or --ascii asks for ASCII");
    else
        ui_say(ui, ST_BAD, "characters are utf-8 or ascii, found '%s'", rest);
}

/* What an edit came to: refused, or set but nothing can be planned with it. */
static void say_outcome(struct ui *ui, bool set, const char *why)
{
    if (!set)
        ui_say(ui, ST_BAD, "%s", why);
    else if (!ui->session->ok)
        ui_say(ui, ST_BAD, "%s", session_first_error(ui->session->diag));
}

static void set_key(struct ui *ui, const char *rest)
{
    size_t n = strcspn(rest, " =");
    char *key = arena_strndup(ui->scratch, rest, n);
    const char *value = rest + n + strspn(rest + n, " ="), *why = "";
    bool set;

    if (!*key) {
        ui_say(ui, ST_BAD, "set KEY VALUE, for example set workload.prompt 8k");
        return;
    }
    set = session_set(ui->session, key, value, &why);
    say_outcome(ui, set, why);
}

static void save(struct ui *ui, const char *rest)
{
    ui_save(ui, rest);
}

static void load(struct ui *ui, const char *rest)
{
    ui_load(ui, rest);
}

static void report(struct ui *ui, const char *rest)
{
    ui_report(ui, rest);
}

static void copy(struct ui *ui, const char *rest)
{
    (void)rest;
    ui_copy(ui);
}

static void help(struct ui *ui, const char *rest)
{
    (void)rest;
    ui_help(ui);
}

static void settings(struct ui *ui, const char *rest)
{
    (void)rest;
    ui_settings(ui);
}

static void quit(struct ui *ui, const char *rest)
{
    (void)rest;
    ui_quit(ui, true);
}

static void quit_now(struct ui *ui, const char *rest)
{
    (void)rest;
    ui_quit(ui, false);
}

static void why(struct ui *ui, const char *rest)
{
    if (*rest)
        why_open(ui, rest);
    else
        ui_action(ui, ACT_WHY, &(struct event){.kind = EVENT_KEY, .key = 'w'});
}

static void undo(struct ui *ui, const char *rest)
{
    (void)rest;
    ui_action(ui, ACT_UNDO, &(struct event){.kind = EVENT_KEY, .key = 'u'});
}

static void redo(struct ui *ui, const char *rest)
{
    (void)rest;
    ui_action(ui, ACT_REDO, &(struct event){.kind = EVENT_KEY, .key = 'U'});
}

static const struct command_word words[] = {
    {"help", "", "keys of this screen", help},
    {"quit", "", "leave; asks when edits are not saved", quit},
    {"quit!", "", "leave without asking", quit_now},
    {"save", "FILE", "write the spec", save},
    {"load", "FILE", "open another spec", load},
    {"report", "FILE", "write the report as JSON", report},
    {"copy", "", "copy the engine's command line", copy},
    {"set", "KEY VALUE", "set any key of the spec", set_key},
    {"why", "PATH", "formula, numbers and source of a figure of the report", why},
    {"undo", "", "take back the last edit", undo},
    {"redo", "", "make it again", redo},
    {"theme", "NAME", "default, light, high-contrast or mono", set_theme},
    {"characters", "utf-8|ascii", "what lines and bars are drawn with", set_characters},
    {"settings", "", "theme and characters", settings},
};
enum { N_WORDS = sizeof words / sizeof *words };

/* --- running ---------------------------------------------------------------------------------
 */

static bool go_to_screen(struct ui *ui, const char *name)
{
    for (size_t i = 0; i < ui->n_screens; i++) {
        if (strcasecmp(ui->screens[i].type->id, name) != 0)
            continue;
        if (ui_present(ui, i))
            ui_goto(ui, ui->screens[i].type->id);
        else
            ui_say(ui, ST_WARN, "there is nothing to show on %s", name);
        return true;
    }
    return false;
}

void command_run(struct ui *ui, const char *line)
{
    size_t skip = strspn(line, " :"), n = strcspn(line + skip, " =");
    char *name = arena_strndup(ui->scratch, line + skip, n), *rest;
    const char *why = "";
    bool set;

    line += skip + n;
    line += strspn(line, " =");
    rest = arena_strdup(ui->scratch, line);
    for (n = strlen(rest); n > 0 && rest[n - 1] == ' ';)
        rest[--n] = '\0';
    if (!*name)
        return;
    for (size_t i = 0; i < N_WORDS; i++)
        if (!strcmp(words[i].name, name)) {
            words[i].run(ui, rest);
            return;
        }
    if (!*rest && go_to_screen(ui, name))
        return;
    set = knob_set(ui->session, name, rest, &why);
    say_outcome(ui, set, why);
}

/* --- completing ------------------------------------------------------------------------------
 */

static void add(struct ui *ui, struct completion *out, const char *item, const char *note)
{
    if (out->n % 64 == 0) {
        out->items =
            arena_grow(ui->scratch, out->items, out->n, out->n + 64, sizeof *out->items);
        out->notes =
            arena_grow(ui->scratch, out->notes, out->n, out->n + 64, sizeof *out->notes);
    }
    out->items[out->n] = item;
    out->notes[out->n++] = note;
}

/* Those that start with the word come before those that only have it inside. */
struct offers {
    const char *word;
    size_t n;
    bool inside; /* the second round */
};

static void consider(struct ui *ui, const struct offers *o, struct completion *out,
                     const char *item, const char *note)
{
    bool starts = !strncasecmp(item, o->word, o->n), has = false;

    for (const char *p = item; o->inside && !starts && *p && !has; p++)
        has = !strncasecmp(p, o->word, o->n);
    if (o->inside ? has : starts)
        add(ui, out, item, note);
}

static void offer_list(struct ui *ui, const struct offers *o, struct completion *out,
                       const struct knob_items *list)
{
    for (size_t i = 0; i < list->n; i++)
        consider(ui, o, out, list->items[i], list->notes ? list->notes[i] : NULL);
}

static void offer_names(struct ui *ui, const struct offers *o, struct completion *out)
{
    struct knob_items knobs = {0};

    knob_names(ui->session, ui->scratch, &knobs);
    offer_list(ui, o, out, &knobs);
    for (size_t i = 0; i < ui->n_screens; i++)
        if (ui_present(ui, i))
            consider(ui, o, out, ui->screens[i].type->id, ui->screens[i].type->summary);
    for (size_t i = 0; i < N_WORDS; i++)
        consider(ui, o, out, words[i].name,
                 *words[i].args
                     ? arena_printf(ui->scratch, "%s  %s", words[i].args, words[i].help)
                     : words[i].help);
}

static void offer_keys(struct ui *ui, const struct offers *o, struct completion *out)
{
    for (const struct spec_section *s = spec_sections(); s->name; s++)
        for (size_t i = 0; i < s->nfields; i++)
            consider(ui, o, out,
                     *s->name ? arena_printf(ui->scratch, "%s.%s", s->name, s->fields[i].key)
                              : s->fields[i].key,
                     s->fields[i].help);
}

static void offer_values(struct ui *ui, const char *name, const struct offers *o,
                         struct completion *out)
{
    static const char *const characters[] = {"utf-8", "ascii"};
    struct knob_items list = {0};
    struct knob k;

    if (!strcmp(name, "theme"))
        list.items = theme_names(&list.n);
    else if (!strcmp(name, "characters"))
        list = (struct knob_items){.items = characters, .n = 2};
    else if (knob_find(ui->session, ui->scratch, name, &k))
        knob_items(ui->session, ui->scratch, &k, &list);
    offer_list(ui, o, out, &list);
}

void command_complete(struct ui *ui, const char *line, size_t at, struct completion *out)
{
    size_t first = strspn(line, " "), end = first + strcspn(line + first, " =");
    size_t word = at;
    char *name = arena_strndup(ui->scratch, line + first, end - first);
    struct offers o;

    while (word > 0 && line[word - 1] != ' ' && line[word - 1] != '=')
        word--;
    o = (struct offers){.word = line + word, .n = at - word};
    out->from = word;
    for (int round = 0; round < 2; round++) {
        o.inside = round == 1;
        if (at <= end)
            offer_names(ui, &o, out);
        else if (!strcmp(name, "set") && strcspn(line + end + 1, " =") + end + 1 >= at)
            offer_keys(ui, &o, out);
        else if (!strcmp(name, "set"))
            offer_values(
                ui, arena_strndup(ui->scratch, line + end + 1, strcspn(line + end + 1, " =")),
                &o, out);
        else
            offer_values(ui, name, &o, out);
    }
}
