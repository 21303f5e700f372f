from __future__ import annotations

import pytest
from block_net import HEADS, TOKENS, WIDTH, Net
from tiny_models import mobilevit_graph
from token_vits import BLOCKS, CLASSIFIES_BY_TOKEN, PATCHES, PREFIX, exported

from edgevit.rewrite.class_token import compute_last_block_for_class_token
from edgevit.rewrite.token_blocks import token_blocks


@pytest.mark.parametrize("kind", PREFIX)
def test_an_exported_vits_blocks_are_found_with_their_tokens(kind: str) -> None:
    blocks = token_blocks(exported(kind))
    assert len(blocks) == BLOCKS
    tokens = PATCHES + PREFIX[kind]
    for block in blocks:
        assert (block.tokens, block.prefix, block.batch) == (tokens, PREFIX[kind], 1)
        assert block.has_class_token == (kind in CLASSIFIES_BY_TOKEN)
        assert list(block.attention.shape or []) == [1, 2, tokens, tokens]
        assert list(block.keys.shape or []) == [1, 2, 32, tokens]
        assert list(block.stream.shape or []) == [1, tokens, 64]


def test_the_stream_is_what_the_second_norm_and_the_next_residual_add_read() -> None:
    for block in token_blocks(exported("registers")):
        assert sorted(node.op_type for node in block.stream.consumers()) == ["Add", "LayerNormalization"]


def test_a_free_batch_is_none() -> None:
    assert [block.batch for block in token_blocks(exported("vit", dynamic_batch=True))] == [None] * BLOCKS


@pytest.mark.parametrize("options", [{}, {"layer_scale": True}, {"bias_by_position": True}])
def test_blocks_are_found_in_what_other_rewrites_leave(options: dict[str, bool]) -> None:
    blocks = token_blocks(Net(**options).model())
    assert [(block.tokens, block.prefix, block.has_class_token) for block in blocks] == [(TOKENS, 1, True)] * 2
    assert all(list(block.keys.shape or []) == [1, HEADS, WIDTH // HEADS, TOKENS] for block in blocks)


def test_a_block_narrowed_to_the_class_token_is_none() -> None:
    assert len(token_blocks(compute_last_block_for_class_token(exported("vit")))) == BLOCKS - 1


def test_what_is_no_plain_vit_has_none() -> None:
    assert token_blocks(mobilevit_graph()) == ()
    assert token_blocks(Net(odd_attention=True).model()) == ()
