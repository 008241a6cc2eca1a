#include "server/form.h"

#include "server/form_chat.h"
#include "server/form_messages.h"
#include "server/form_responses.h"
#include "server/job_embed.h"

const struct form *form_of(enum api_kind kind)
{
    static const struct form *const forms[] = {
        [API_CHAT] = &form_chat,           [API_COMPLETION] = &form_chat_completion,
        [API_RESPONSES] = &form_responses, [API_MESSAGES] = &form_messages,
        [API_EMBEDDING] = &job_embed_form,
    };
    return forms[kind];
}
