"""Drives a running server through OpenAI's Python client: URL and key are the arguments."""

import json
import sys

import openai
from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)
PROMPT = "Once upon a time, there was a little girl named Lily."
MESSAGES = [{"role": "user", "content": PROMPT}]

assert [model.id for model in client.models.list()] == ["base"]

chat = client.chat.completions.create(
    model="base", messages=MESSAGES, max_tokens=12, temperature=0, extra_body={"preferences": {"cheerful": 0.8}}
)
assert chat.choices[0].message.content and chat.choices[0].finish_reason == "length"
assert chat.usage.completion_tokens == 12
assert abs(chat.genarm["weights"]["cheerful"] - 0.8) < 1e-6

chunks = list(
    client.chat.completions.create(
        model="base", messages=MESSAGES, max_tokens=12, temperature=0, stream=True,
        stream_options={"include_usage": True}, extra_body={"preferences": {"cheerful": 0.8}},
    )
)
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert text == chat.choices[0].message.content, (text, chat.choices[0].message.content)
assert chunks[-1].usage.completion_tokens == 12

several = client.chat.completions.create(
    model="base", messages=MESSAGES, max_tokens=5, n=3, seed=1, logprobs=True, top_logprobs=2
)
assert [choice.index for choice in several.choices] == [0, 1, 2]
assert len(several.choices[0].logprobs.content[0].top_logprobs) == 2

completion = client.completions.create(model="base", prompt=PROMPT, max_tokens=8, stop=["."], logprobs=1)
assert "." not in completion.choices[0].text

answer = client.chat.completions.create(
    model="base", messages=MESSAGES, max_tokens=100, seed=3,
    response_format={
        "type": "json_schema",
        "json_schema": {
            "name": "mood",
            "schema": {
                "type": "object",
                "properties": {"mood": {"enum": ["happy", "sad"]}},
                "required": ["mood"],
                "additionalProperties": False,
            },
        },
    },
)
assert json.loads(answer.choices[0].message.content)["mood"] in ("happy", "sad")

try:
    client.chat.completions.create(model="base", messages=MESSAGES, temperature=-1)
    sys.exit("a wrong temperature was taken")
except openai.BadRequestError as error:
    assert error.param == "temperature", error

try:
    OpenAI(base_url=sys.argv[1], api_key="wrong", max_retries=0).models.list()
    sys.exit("a wrong key was taken")
except openai.AuthenticationError as error:
    assert error.code == "invalid_api_key", error

print("all is well")
