/* api_turns: the list of messages that a chat template reads, built from forms that cut a
 * conversation otherwise: thoughts, texts and calls of one turn of the assistant become one
 * message. Any thread; one owner. Out of memory shows as `failed`.
 */
#ifndef CHORUS_SERVER_API_TURNS_H
#define CHORUS_SERVER_API_TURNS_H

#include <stdbool.h>

#include <cjson/cJSON.h>

struct api_turns {
    cJSON *list; /* owned until it is taken */
    cJSON *open; /* the assistant's message that more may join; NULL: none */
    bool failed;
};

void api_turns_init(struct api_turns *t);
void api_turns_deinit(struct api_turns *t);
/* A whole message; the assistant's may be joined by calls. */
void api_turns_say(struct api_turns *t, const char *role, const char *text);
void api_turns_think(struct api_turns *t, const char *text);
/* `arguments`: an object or its text; copied. */
void api_turns_call(struct api_turns *t, const char *id, const char *name, const cJSON *arguments);
void api_turns_result(struct api_turns *t, const char *id, const char *text);
/* The chat that has these messages, for the caller; NULL: out of memory. */
cJSON *api_turns_take(struct api_turns *t);

#endif
