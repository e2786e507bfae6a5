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

SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
asked = {"model": "base", "messages": MESSAGES, "tools": TOOLS, "tool_choice": "required", "max_tokens": 200, "temperature": 0}
called = client.chat.completions.create(**asked).choices[0]
assert called.finish_reason == "tool_calls" and called.message.tool_calls[0].function.name == "weather", called
assert json.loads(called.message.tool_calls[0].function.arguments) == {"city": "Rome"}
deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(stream=True, **asked) if chunk.choices]
parts = [call for delta in deltas for call in delta.tool_calls or []]
assert parts[0].id and parts[0].function.name == "weather", parts
assert json.loads("".join(part.function.arguments or "" for part in parts)) == {"city": "Rome"}, parts
result = {"role": "tool", "tool_call_id": called.message.tool_calls[0].id, "content": "31 degrees"}
goes_on = client.chat.completions.create(model="base", messages=[*MESSAGES, called.message, result], tools=TOOLS, max_tokens=4)
assert goes_on.usage.completion_tokens > 0

response = client.responses.create(model="base", input=PROMPT, max_output_tokens=8, temperature=0)
assert response.output_text and response.usage.output_tokens == 8, response
text = "".join(
    event.delta
    for event in client.responses.create(model="base", input=PROMPT, max_output_tokens=8, temperature=0, stream=True)
    if event.type == "response.output_text.delta"
)
assert text == response.output_text, (text, response.output_text)
flat = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
item = client.responses.create(model="base", input=PROMPT, tools=flat, tool_choice="required", max_output_tokens=200, temperature=0).output[0]
assert item.type == "function_call" and json.loads(item.arguments) == {"city": "Rome"}, item

try:
    client.chat.completions.create(model="base", messages=[{"role": "user", "content": "Lily ran. " * 400}])
    sys.exit("a prompt that does not fit was taken")
except openai.BadRequestError as error:
    assert error.code == "context_length_exceeded" and "exceeds the available context size" in str(error), error

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
