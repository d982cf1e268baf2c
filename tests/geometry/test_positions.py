"""Fixed position embeddings."""

from __future__ import annotations

import torch

from vidpara.geometry.positions import positions, positions_2d


def test_position_embeddings_differ_everywhere():
    for table in (positions(50, 32), positions_2d(7, 9, 32)):
        distance = torch.cdist(table, table) + torch.eye(len(table)) * 9
        assert distance.min() > 0.1


def test_places_in_an_image_are_told_row_by_row():
    table = positions_2d(7, 9, 32).unflatten(0, (7, 9))
    row, column = positions(7, 16), positions(9, 16)
    assert torch.equal(table[3, 5], torch.cat([row[3], column[5]]))
