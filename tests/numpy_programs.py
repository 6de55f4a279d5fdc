"""Programs as people write them, with `import numpy as np` and nothing of autodiff: each a
function to differentiate and the arguments to do it at."""

from __future__ import annotations

import numpy as np
from scipy import special

RNG = np.random.default_rng(11)


def logistic_regression(w, b, X, y):
    z = np.dot(X, w) + b
    p = 1.0 / (1.0 + np.exp(-z))
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)) + 0.01 * np.sum(w**2)


def softmax_cross_entropy(W, X, onehot):
    logits = X @ W
    logits -= np.max(logits, axis=1, keepdims=True)
    logp = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    return -np.sum(onehot * logp) / X.shape[0]


def kmeans_step(X, centres):
    distances = np.sum((X[:, None, :] - centres[None, :, :]) ** 2, axis=-1)
    nearest = np.argmin(distances, axis=1)
    new = np.zeros_like(centres)
    counts = np.zeros_like(centres[:, 0])
    np.add.at(new, nearest, X)
    np.add.at(counts, nearest, 1.0)
    new /= np.maximum(counts, 1.0)[:, None]
    return np.sum((X - np.take(new, nearest, axis=0)) ** 2)


def pca(X):
    centred = X - X.mean(axis=0)
    covariance = centred.T @ centred / (X.shape[0] - 1)
    values, vectors = np.linalg.eigh(covariance)
    scores = centred @ vectors[:, ::-1][:, :2]
    return np.sum(np.var(scores, axis=0)) / np.sum(values)


def kalman_step(x, P, F, Q, H, R, z):
    x, P = F @ x, F @ P @ F.T + Q
    S = H @ P @ H.T + R
    K = np.linalg.solve(S, H @ P).T
    x = x + K @ (z - H @ x)
    P = (np.eye(2, like=P) - K @ H) @ P
    return np.sum(x) + np.trace(P)


def fft_filter(signal, gains):
    spectrum = np.fft.rfft(signal)
    spectrum = spectrum * gains
    filtered = np.fft.irfft(spectrum, n=len(signal))
    return np.sqrt(np.mean((filtered - signal) ** 2))


def gaussian_process(X, y, length, noise):
    squares = np.sum((X[:, np.newaxis] - X[np.newaxis]) ** 2, axis=-1)
    K = np.exp(-0.5 * squares / length**2) + noise**2 * np.eye(len(X), like=X)
    L = np.linalg.cholesky(K)
    alpha = np.linalg.solve(L.T, np.linalg.solve(L, y))
    return -0.5 * y.dot(alpha) - np.log(np.diag(L)).sum() - len(X) / 2 * np.log(2 * np.pi)


def lotka_volterra(y0, rates):
    y, dt = y0, 0.05
    path = [y]
    for _ in range(20):
        rabbits, foxes = y
        slope = np.stack([rabbits * (rates[0] - rates[1] * foxes), foxes * (rates[2] * rabbits - rates[3])])
        y = y + dt * slope
        path.append(y)
    return np.mean(np.stack(path)[:, 0])


def convolution_net(image, kernel, dense):
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, 1), kernel.shape)
    hidden = np.maximum(np.einsum("ijkl,kl->ij", windows, kernel), 0.0)
    pooled = hidden.reshape(3, 2, 3, 2).max(axis=(1, 3))
    return np.tanh(pooled.ravel() @ dense).sum()


def polynomial_fit(x, y):
    coefficients = np.polyfit(x, y, 2)
    return np.polyval(coefficients, 1.5) + np.sum((np.polyval(coefficients, x) - y) ** 2)


def pairwise_distances(X):
    gram = X @ X.T
    squares = np.diag(gram)[:, None] + np.diag(gram)[None, :] - 2 * gram
    i, j = np.triu_indices(X.shape[0], k=1)
    return np.sum(1.0 / np.sqrt(np.clip(squares[i, j], 1e-9, None)))


def black_scholes(spot, strike, time, rate, sigma):
    d1 = (np.log(spot / strike) + (rate + sigma**2 / 2) * time) / (sigma * np.sqrt(time))
    d2 = d1 - sigma * np.sqrt(time)
    return np.sum(spot * special.ndtr(d1) - strike * np.exp(-rate * time) * special.ndtr(d2))


def great_circle(a, b):
    lat1, lon1 = np.radians(a)
    lat2, lon2 = np.radians(b)
    h = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    bearing = np.arctan2(np.sin(lon2 - lon1) * np.cos(lat2), np.cos(lat1) * np.sin(lat2))
    return 2 * 6371.0 * np.arcsin(np.sqrt(h)) + np.degrees(bearing)


def smooth_life(board):
    for _ in range(3):
        neighbours = sum(np.roll(board, (i, j), axis=(0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)
        birth = np.exp(-((neighbours - 3) ** 2))
        survive = np.exp(-((neighbours - 2.5) ** 2) / 2)
        board = np.where(board > 0.5, survive, birth)
    return np.sum(board)


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1 - x[:-1]) ** 2.0)


def batch_norm(x, gamma, beta):
    mean, var = np.mean(x, axis=0), np.var(x, axis=0)
    y = (x - mean) / np.sqrt(var + 1e-5)
    y *= gamma
    y += beta
    return np.sum(np.sin(y))


def lstm_cell(x, h, c, W, U, b):
    for step in x:
        gates = W @ step + U @ h + b
        i, f, o, g = np.split(gates, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
    return np.linalg.norm(h)


def accumulated_in_an_array(x, w):
    total = np.zeros(3)
    for row in x:
        total += np.sin(row) * w
    total *= 2
    return np.sum(total**2)


def jacobi_relaxation(u):
    for _ in range(4):
        new = u.copy()
        new[1:-1, 1:-1] = 0.25 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:])
        new[0, :] *= 0.9
        u = new
    return np.sum(u * u)


def _normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def _labels(n: int, k: int) -> np.ndarray:
    return np.eye(k)[RNG.integers(0, k, n)]


PROGRAMS = {
    logistic_regression: (_normal(3), _normal(), _normal(6, 3), RNG.uniform(0, 1, 6)),
    softmax_cross_entropy: (_normal(3, 4), _normal(5, 3), _labels(5, 4)),
    kmeans_step: (_normal(8, 2), np.array([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])),
    pca: (_normal(7, 3),),
    kalman_step: (_normal(2), np.eye(2) * 0.5, _normal(2, 2), np.eye(2) * 0.1, _normal(1, 2), np.eye(1), _normal(1)),
    fft_filter: (_normal(8), np.linspace(1.0, 0.2, 5)),
    gaussian_process: (_normal(5, 2), _normal(5), np.array(0.8), np.array(0.3)),
    lotka_volterra: (np.array([1.0, 0.5]), np.array([1.1, 0.4, 0.1, 0.4])),
    convolution_net: (_normal(6, 6), _normal(3, 3), _normal(9, 2)),
    polynomial_fit: (np.linspace(0.0, 2.0, 7), _normal(7)),
    pairwise_distances: (_normal(5, 3),),
    black_scholes: (np.array([90.0, 100.0, 110.0]), np.array(100.0), np.array(0.5), np.array(0.02), np.array(0.3)),
    great_circle: (np.array([52.5, 13.4]), np.array([40.7, -74.0])),
    smooth_life: (RNG.uniform(0, 1, (4, 4)),),
    rosenbrock: (_normal(5),),
    batch_norm: (_normal(6, 3), _normal(3), _normal(3)),
    lstm_cell: (_normal(3, 2), _normal(2), _normal(2), _normal(8, 2), _normal(8, 2), _normal(8)),
    accumulated_in_an_array: (_normal(4, 3), _normal(3)),
    jacobi_relaxation: (_normal(5, 5),),
}
HOST = (accumulated_in_an_array, pairwise_distances)  # these make arrays of their own on the host
