"""The example shop on gunicorn, parallel uploads of photos, and the latency of *similar items* meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from .example import ROOT, get

PHOTO = "/api/products/search-by-image/"
BOUNDARY = "photo-boundary"


@contextlib.contextmanager
def gunicorn(example, workers=2, threads=8, **environment):
    """Run the shop on gunicorn; yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = example.environment
    example.environment = before | environment
    log = example.folder / "gunicorn.log"
    options = ["--workers", workers, "--worker-class", "gthread", "--threads", threads, "--bind", f"127.0.0.1:{port}"]
    with log.open("w") as output:
        process = example.start("-m", "gunicorn", *options, "--chdir", ROOT, "example_project.wsgi", stdout=output)
    try:
        address = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 300
        while get(f"{address}/api/products/", missing=None) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        example.environment = before
        process.terminate()
        process.wait(30)


STOCK = """
import io, random
import numpy as np
from django.core.files.base import ContentFile
from PIL import Image
from example_project.shop.models import Brand, Category, Product

def picture(seed, side=600):
    patches = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=88)
    return ContentFile(file.getvalue(), name=f"{seed}.jpg")

categories = [Category.objects.create(name=f"Category {i}", slug=f"category-{i}") for i in range(8)]
brands = [Brand.objects.create(name=f"Brand {i}", slug=f"brand-{i}") for i in range(20)]
for i in range(COUNT):
    product = Product(name=f"Product {i}", slug=f"product-{i}", sku=f"P-{i}", price=i + 1, image=picture(i))
    product.category, product.brand = random.Random(i).choice(categories), random.Random(-i).choice(brands)
    product.image.save(product.image.name, product.image.file, save=False)
    Product.objects.bulk_create([product])
print(*Product.objects.order_by("pk").values_list("pk", flat=True))
"""


def stock(example, count):
    """Fill the shop with ``count`` products, embed them and return their primary keys."""
    example.migrate()
    keys = example.python(STOCK.replace("COUNT", str(count)))
    example.call("reindex_embeddings", "--sync")
    return [int(key) for key in keys.split()]


def upload_all(address, photo, count, patience=0.0):
    """Upload the photo ``count`` times at the same moment, from another process; return the answers.

    Each is (status of each try, seconds in total, seconds of the last try). A try that is answered by Retry-After is
    repeated after that time, for at most ``patience`` seconds; status 0 means no answer.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, address, str(photo), str(count), str(patience)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def similar_items(address, products, until, seed=0, pause=0):
    """Request similar items one after the other until ``until(count)`` is true; return the milliseconds of each."""
    taken, chance = [], random.Random(seed)
    while not until(len(taken)):
        start = time.perf_counter()
        # Visitors, not one visitor, who would soon be throttled
        visitor = {"X-Forwarded-For": f"10.{200 + len(taken) // 200 % 50}.{chance.getrandbits(8)}.{seed % 256}"}
        path = f"/api/products/{chance.choice(products)}/similar/?limit=12"
        status, _, _ = request(address, "GET", path, headers=visitor)
        taken.append((time.perf_counter() - start) * 1e3)
        assert status == 200
        time.sleep(pause)
    return taken


def p95(values):
    return statistics.quantiles(values, n=20)[-1]


def request(address, method, path, body=None, headers=None):
    """Return status, headers and body of the answer; status 0 where there is none."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, {}, b""
    finally:
        connection.close()


def multipart(photo):
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
    return head.encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def post_photo(address, body, visitor):
    """Search by a ``multipart`` body as visitor number so; return as ``request``."""
    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "X-Forwarded-For": f"10.{visitor // 65536}.{visitor // 256 % 256}.{visitor % 256}",  # visitors, not one visitor
    }
    return request(address, "POST", PHOTO, body, headers)


def _upload(address, body, visitor, patience, start, answers):
    start.wait()
    begun, tries = time.monotonic(), []
    while True:
        tried = time.monotonic()
        status, said, _ = post_photo(address, body, visitor)
        ended = time.monotonic()
        wait = said.get("Retry-After", "") if status in (429, 503) else None
        tries.append(status if wait != "" else -status)
        if not wait or ended - begun + float(wait) > patience:
            break
        time.sleep(float(wait))
    answers[visitor] = (tries, ended - begun, ended - tried)


def main():
    address, photo, count, patience = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    body, start, answers = multipart(photo.read_bytes()), threading.Barrier(count), [None] * count
    threads = [
        threading.Thread(target=_upload, args=(address, body, i, patience, start, answers)) for i in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump(answers, sys.stdout)


def summary(answers):
    """Return the statuses of the last tries with their counts, the number of tries, and the most seconds."""
    last = Counter(tries[-1] for tries, *_ in answers)
    return dict(last), sum(len(tries) for tries, *_ in answers), max(taken for _, taken, _ in answers)


if __name__ == "__main__":
    main()
