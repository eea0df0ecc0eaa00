/* help.c: `nabla help`: the overview, the help of a command, and the grammar of nets. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const cli_option options[] = {{0, NULL, CLI_FLAG, NULL, 0, NULL, 0, 0, NULL, false, NULL}};

static void overview(void) {
    const cli_command *c;
    puts("usage: nabla COMMAND [words] [options]\n\ncommands:");
    for (int i = 0; (c = cli_command_at(i)); i++) printf("  %-11s %s\n", c->name, c->about);
    printf("\n'%s help COMMAND' tells all of one; '%s help net' is the language of nets.\n\n"
           "to begin:\n"
           "  %s train --data fashion-mnist --net mlp\n"
           "\n"
           "exit codes: 0 done; 1 it ran and the answer is no; 2 something to mend; 130 stopped by Ctrl-C, the state saved\n",
           cli_program().text, cli_program().text, cli_program().text);
}

static int run(const cli_words *words, void *settings) {
    (void)settings;
    if (!words->n) {
        overview();
        return CLI_DONE;
    }
    if (strcmp(words->at[0], "net") == 0) {
        const char *text = nb_net_language();
        printf("%s%s", text, *text && text[strlen(text) - 1] == '\n' ? "" : "\n");
        return CLI_DONE;
    }
    const cli_command *command = cli_command_find(words->at[0]);
    if (!command) return CLI_MEND;
    cli_print_help(command);
    return CLI_DONE;
}

const cli_command cli_help_command = {
    .name = "help",
    .usage = "help [COMMAND|net]",
    .about = "print this, the help of a command, or the language of nets",
    .details = "Prints the commands, the help of one, or (net) the grammar of the language in which nets are written.",
    .options = options,
    .most = 1,
    .run = run,
};
