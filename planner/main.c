/* The process: locale, signals, standard streams. Everything else is the library's. */
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "planner/cmd.h"

int main(int argc, char **argv)
{
    struct arena *a = arena_new();
    struct cmd_ctx ctx = {.argc = argc,
                          .argv = argv,
                          .in = stdin,
                          .out = stdout,
                          .err = stderr,
                          .out_is_terminal = isatty(STDOUT_FILENO) == 1,
                          .arena = a,
                          .diag = diag_new(a)};
    int rc;

    setlocale(LC_CTYPE, "");  /* widths only; numbers keep their point */
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of the write, exit 7 */
    rc = cmd_main(&ctx);
    if (fclose(stdout) != 0 && rc == 0)
        rc = 7;
    arena_free(a);
    return rc;
}
