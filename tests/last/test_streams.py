"""The streams of a clip, and the random numbers that are a pure function of their keys."""
import pytest
import torch

from last import STREAMS, derive_streams, hashed_uniform
from skeletons import SKELETONS

# --- streams ---

@pytest.mark.parametrize("name", SKELETONS)
@pytest.mark.parametrize("T", [1, 2, 9])
def test_streams_are_the_differences_of_the_design(name, T):
    s, J = SKELETONS[name], torch.randn(2, T, SKELETONS[name].num_joints, 3)
    want = torch.zeros(2, T, s.num_joints, 12)
    for t in range(T):
        for v, p in s.bones:
            want[:, t, v, 0:3] = J[:, t, v]
            want[:, t, v, 3:6] = J[:, t, v] - J[:, t, p]
            if t + 1 < T:
                want[:, t, v, 6:9] = J[:, t + 1, v] - J[:, t, v]
                want[:, t, v, 9:12] = (J[:, t + 1, v] - J[:, t + 1, p]) - (J[:, t, v] - J[:, t, p])
    assert torch.allclose(derive_streams(J, torch.tensor(s.parents)), want, atol=1e-6)


def test_streams_come_in_the_order_they_are_named():
    J, parents = torch.randn(5, 25, 3), torch.tensor(SKELETONS["ntu25"].parents)
    every = dict(zip(STREAMS, derive_streams(J, parents).split(3, -1), strict=True))
    names = ("bone_velocity", "joint")
    assert torch.equal(derive_streams(J, parents, names), torch.cat([every[n] for n in names], -1))


def test_streams_of_augmented_joints_are_the_augmented_streams():
    J, A = torch.randn(2, 7, 25, 3, dtype=torch.double), torch.randn(3, 3, dtype=torch.double)
    parents = torch.tensor(SKELETONS["ntu25"].parents)
    after = derive_streams(J, parents).unflatten(-1, (4, 3)) @ A
    assert torch.allclose(derive_streams(J @ A, parents), after.flatten(-2))


# --- random numbers ---

def test_hashed_uniform_is_uniform():
    u = hashed_uniform(7, torch.arange(200_000))
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 1 / 2) < 4 * 12 ** -0.5 / len(u) ** 0.5
    assert abs(u.var() - 1 / 12) < 4 * 180 ** -0.5 / len(u) ** 0.5
    chi2 = ((torch.histc(u, 100, 0, 1) - 2000) ** 2 / 2000).sum()
    assert abs(chi2 - 99) < 4 * (2 * 99) ** 0.5


@pytest.mark.parametrize("place", range(4))
def test_hashed_uniform_of_neighbouring_keys_does_not_correlate(place):
    # keys are (seed, epoch, clip, draw): one varies over the sample, another is larger by 1 in b than in a
    keys = [torch.tensor(k) for k in (3, 1, 4, 1)]
    keys[(place + 1) % 4] = torch.arange(50_000)
    a = hashed_uniform(*keys)
    keys[place] = keys[place] + 1
    b = hashed_uniform(*keys)
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 4 / len(a) ** 0.5
    pairs = torch.histogramdd(torch.stack([a, b], 1), [10, 10], [0, 1, 0, 1]).hist
    assert abs(((pairs - 500) ** 2 / 500).sum() - 99) < 4 * (2 * 99) ** 0.5


def test_hashed_uniform_is_one_number_however_a_key_is_given():
    batch = hashed_uniform(1, 2, torch.arange(10)[:, None], torch.arange(5))
    assert batch.shape == (10, 5)
    assert all(batch[i, j] == hashed_uniform(1, 2, i, j) for i in range(10) for j in range(5))
    assert hashed_uniform(1, 2) != hashed_uniform(2, 1)
