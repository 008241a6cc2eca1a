"""Chats and plain texts that every golden run uses, and the chat templates of the tiny models."""

# Templates in the manner of the families; written for these models.
LLAMA3_TEMPLATE = (
    "{{- bos_token }}\n"
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system_text = messages[0]['content']|trim %}\n"
    "    {%- set turns = messages[1:] %}\n"
    "{%- else %}\n"
    "    {%- set system_text = 'Answer briefly.' %}\n"
    "    {%- set turns = messages %}\n"
    "{%- endif %}\n"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + system_text + '<|eot_id|>' }}\n"
    "{%- for message in turns %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim }}\n"
    "    {{- '<|eot_id|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
    "{%- endif %}\n"
)

MISTRAL_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system_text = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set system_text = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}"
    "{% endif %}"
    "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system_text if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)

QWEN2_TEMPLATE = (
    "{%- if messages[0].role != 'system' %}\n"
    "    {{- '<|im_start|>system\\nYou are a small test model.<|im_end|>\\n' }}\n"
    "{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)

QWEN3_TEMPLATE = (
    "{%- for message in messages %}\n"
    "    {%- set content = message.content %}\n"
    "    {%- if message.role == 'assistant' and '</think>' in content %}\n"
    "        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n"
    "    {%- endif %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think>\\n\\n</think>\\n\\n' }}\n"
    "    {%- endif %}\n"
    "{%- endif %}\n"
)

# The third chat is long enough to pass several KV pages, the llama3 RoPE window and any small prefill chunk.
# Content that begins or ends with white space meets the template's own text there: a tokenizer that cuts at
# the border instead of reading the rendered text as a whole gives other ids.
CHATS = [
    {
        "name": "short",
        "messages": [{"role": "user", "content": "Tell me a story about the old river."}],
    },
    {
        "name": "turns",
        "messages": [
            {"role": "system", "content": "You write short answers, in verse where it helps."},
            {"role": "user", "content": "Wie heißt der Fuchs? 🦊"},
            {"role": "assistant", "content": "Er heißt «Zoë», c'est tout. 名前は秘密。"},
            {"role": "user", "content": "  And what does she sell in 1987?\n"},
        ],
    },
    {
        "name": "long",
        "messages": [
            {
                "role": "user",
                "content": "\nRead this code and say what it counts:\n\n```python\n"
                "def count_ships(log, limit=100):\n    total = 0\n    for line in log:\n"
                "        if line.strip() and not line.startswith('#'):\n"
                "            total += int(line.split(',')[1])\n    return min(total, limit)\n```\n\n"
                "The keeper counted the ships twice every evening. When the count was odd, he lit a second lamp "
                "and wrote the number in a small green book. Nobody had asked him to do it; nobody ever read "
                "the book. Смотритель маяка считал корабли. 灯塔看守人数两遍船。",
            }
        ],
    },
]

TEXTS = [
    "",
    " ",
    "Hello",
    " hello world",
    "The lighthouse keeper counted 12345 ships.",
    "line one\n\n  line two\r\n\tline three   ",
    "naïve café, é decomposed: é",
    "👩🏽‍🚒👨‍👩‍👧‍👦 🇩🇪 ❤️‍🔥",
    "灯塔 등대 маяк منارة प्रकाश",
    "I'VE said it's they'd, we'll DON'T",
    "x" * 40 + " " * 17 + "=" * 9,
]
