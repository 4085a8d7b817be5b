"""Recommenders as they are published, and networks of torch_geometric's graph layers."""

import torch
from torch import Tensor, nn


class Factors(nn.Module):
    """Matrix factorization with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(100, 8), nn.Embedding(500, 8)
        self.bias = nn.Embedding(500, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.users(user) * self.items(item)).sum(-1) + self.bias(item).squeeze(-1)


class NeuralFilter(nn.Module):
    """Neural collaborative filtering."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(100, 8), nn.Embedding(500, 8)
        self.layers = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.layers(torch.cat([self.users(user), self.items(item)], -1))


class DeepFM(nn.Module):
    """Factorization machine beside a deep network, over fields of categories."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.tensor([0, 50, 100]))
        self.table, self.linear = nn.Embedding(150, 4), nn.Embedding(150, 1)
        self.deep = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, fields: Tensor) -> Tensor:
        ids = fields + self.offsets
        vectors = self.table(ids)
        pairs = vectors.sum(1).square() - vectors.square().sum(1)
        return (self.linear(ids).sum(1) + 0.5 * pairs.sum(1, keepdim=True) + self.deep(vectors.flatten(1))).sigmoid()


class Interactions(nn.Module):
    """DLRM: dense numbers, bags of categories, and dot products of all pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(100, 8) for _ in range(3))
        self.bottom, self.top = nn.Linear(5, 8), nn.Linear(14, 1)

    def forward(self, dense: Tensor, categories: Tensor) -> Tensor:
        first = self.bottom(dense)
        vectors = torch.stack([first, *(bag(categories[:, at]) for at, bag in enumerate(self.bags))], 1)
        rows, columns = torch.triu_indices(4, 4, 1)
        return self.top(torch.cat([first, (vectors @ vectors.transpose(1, 2))[:, rows, columns]], 1))


class NextItem(nn.Module):
    """SASRec: what follows a sequence of items."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.places = nn.Embedding(500, 16, padding_idx=0), nn.Embedding(64, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, history: Tensor) -> Tensor:
        places = torch.arange(history.size(1), device=history.device)
        mask = torch.triu(torch.ones(history.size(1), history.size(1), device=history.device), 1).bool()
        return self.layer(self.items(history) + self.places(places), src_mask=mask)[:, -1] @ self.items.weight.t()


class Session(nn.Module):
    """GRU4Rec with packed sequences: lengths are values that sizes follow."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.memory = nn.Embedding(500, 16), nn.GRU(16, 16, batch_first=True)

    def forward(self, history: Tensor, length: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.items(history), length.squeeze(1).cpu(), batch_first=True, enforce_sorted=False
        )
        return self.memory(packed)[1][0]


class Multihot(nn.Module):
    """An autoencoder over a user's whole history, as numbers of each item."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(300, 16), nn.Tanh(), nn.Linear(16, 300))

    def forward(self, history: Tensor) -> Tensor:
        return self.layers(nn.functional.normalize(history)).masked_fill(history > 0, -1e9)


class Graph(nn.Module):
    """Two layers of torch_geometric between features of nodes, along edges."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        from torch_geometric import nn as graphs

        make = getattr(graphs, layer)
        if layer == "GINConv":
            self.first, self.second = make(nn.Linear(8, 16)), make(nn.Linear(16, 4))
        else:
            self.first, self.second = make(8, 16), make(16, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)


class WholeGraph(Graph):
    """One answer for each of several graphs, given by the number of each node's graph."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        from torch_geometric.nn import global_mean_pool

        self.pool = global_mean_pool

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.pool(self.second(self.first(x, edge_index).relu(), edge_index), batch)
