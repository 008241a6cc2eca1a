/* commands: the commands of the one binary, in one list. It makes the enum below, the prototypes in
 * server/cmd.h, the dispatch in server/main.c, and what help, completion and the manual say. */
#ifndef CHORUS_CONFIG_COMMANDS_H
#define CHORUS_CONFIG_COMMANDS_H

/* X(id, name, what it does, its arguments beside options, what completes an argument, more for the
 * manual). `id` gives OPTION_<id> and cmd_<name>. What completes: as in option_def.arg, "" for
 * none. */
#define COMMAND_LIST(X)                                                                            \
    X(SERVE, serve, "answer OpenAI's API over HTTP", "--model DIR [options]", "",                  \
      "Loads one base model with its adapters and serves until SIGTERM or SIGINT, which let "      \
      "running answers finish; a second signal ends at once. SIGHUP reads the settings again and " \
      "applies those that are marked as reloadable.")                                              \
    X(RUN, run, "chat in the terminal", "[--model DIR | --url URL] [--adapter NAME] [options]",    \
      "",                                                                                          \
      "Talks to the running server; with --model it loads the model itself. With --prompt, or "    \
      "with standard input from elsewhere than a terminal: answers that and ends.")                \
    X(INSPECT, inspect, "what a model or adapter holds, and what would be refused",                \
      "PATH [--model DIR] [--json]", "FILE",                                                       \
      "PATH is the directory of a model or of an adapter, an adapter in a .gguf file, or "         \
      "org/name[:revision] in the Hugging Face cache.")                                            \
    X(TOKENIZE, tokenize, "text to token ids and back", "--model DIR [options] < TEXT", "",        \
      "Without --jsonl all of standard input is one text; one token a line, id and JSON string.")  \
    X(RENDER, render, "a chat template over variables from standard input",                        \
      "(--template FILE | --model DIR) [options] < VARIABLES.json", "",                            \
      "Reads a JSON object of template variables (messages, tools, add_generation_prompt, "        \
      "bos_token, ...) and writes the text. Ends with 1 and the template's message when it "       \
      "raises.")                                                                                   \
    X(PULL, pull, "fetch a model or adapter from the Hugging Face hub into its cache",             \
      "ORG/NAME[:REVISION] [options]", "",                                                         \
      "Serve, run and inspect find it in the cache under the same name; so does huggingface_hub, " \
      "and what that fetched needs no pull. What was begun goes on where it ended, and each file " \
      "is checked by its hash. HF_TOKEN, HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and "  \
      "HTTPS_PROXY mean what they mean to huggingface_hub.")                                       \
    X(LS, ls, "models and adapters in the Hugging Face cache, and adapters of a directory",        \
      "[--adapters DIR] [--json]", "",                                                             \
      "A line each: what it is, its size, when it was used, and whether Chorus can serve it.")     \
    X(RM, rm, "remove models and adapters from the Hugging Face cache",                            \
      "ORG/NAME[:REVISION]... [--yes]", "",                                                        \
      "With a revision only that one goes, and what other revisions share with it stays.")         \
    X(BENCH, bench, "measure a server under load", "[--url URL] [options]", "",                    \
      "Works against any server that speaks OpenAI's API.")                                        \
    X(PS, ps, "what a running server is doing", "[--watch] [--url URL] [options]", "",             \
      "Shows the model, its memory, adapters by tier, requests and tokens a second.")              \
    X(HEALTH, health, "whether a server serves", "[--url URL] [options]", "",                      \
      "Prints one line and ends with 0 when it does, else with 1.")                                \
    X(COMPLETION, completion, "completion of commands and options for a shell", "bash|zsh|fish",   \
      "bash|zsh|fish",                                                                             \
      "Prints a script to be sourced, as in: eval \"$(chorus completion bash)\".")                 \
    X(MAN, man, "the manual as a roff page", "[chorus.1|chorus.conf.5]", "chorus.1|chorus.conf.5", \
      "Read it with: chorus man | man -l -")

#define X(id, name, what, args, completes, more) COMMAND_##id,
enum command_number { COMMAND_LIST(X) COMMAND_COUNT };
#undef X

/* The commands that an option belongs to, as a mask. */
#define X(id, name, what, args, completes, more) OPTION_##id = 1 << COMMAND_##id,
enum option_command { COMMAND_LIST(X) };
#undef X

struct command_text {
    const char *name;
    const char *what;
    const char *args;
    const char *completes;
    const char *more;
};

/* [COMMAND_COUNT], by number. */
extern const struct command_text command_texts[COMMAND_COUNT];

/* The name of `mask`'s lowest command. */
const char *command_name(unsigned mask);
/* The known command that is most like `name`; NULL: none is. */
const char *command_nearest(const char *name);

#endif
