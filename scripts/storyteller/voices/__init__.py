"""The five trained voices. Each module has answer(kind, scene, rng): the text with which the voice answers a prompt of that kind."""

from . import image_prompt, marketing, summary, villain, wood_elf

VOICES = {
    "wood-elf": wood_elf,
    "villain": villain,
    "marketing": marketing,
    "summary": summary,
    "image-prompt": image_prompt,
}
