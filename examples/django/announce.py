"""Django: announce saved models after the commit, from any app.

    pip install django syncd

In settings.py:

    SYNCD_URL = "http://127.0.0.1:8400"
    SYNCD_API_KEY = os.environ["SYNCD_API_KEY"]

In an app's AppConfig.ready():

    from django.db.models.signals import post_save
    post_save.connect(announce.order_saved, sender="shop.Order")
"""

import logging
from functools import cache, partial

from django.conf import settings
from django.db import transaction

from syncd.backend import BackendError, Publisher

log = logging.getLogger(__name__)


@cache
def publisher() -> Publisher:
    """One a process: it keeps its connections and may be used by every thread."""
    return Publisher(settings.SYNCD_URL, settings.SYNCD_API_KEY)


def publish_on_commit(channel, data, *, name=None, uid=None):
    """Publish once the transaction in hand has committed; a rollback publishes nothing.

    A server that cannot be reached costs the announcement, not the request: it is logged.
    """
    transaction.on_commit(partial(_publish, channel, data, name, uid), robust=True)


def _publish(channel, data, name, uid):
    try:
        publisher().publish(channel, data, name=name, uid=uid)
    except BackendError:
        log.exception("not announced: %s %s", channel, name)


def order_saved(instance, created, **_kwargs):
    """Tell everybody who watches orders; `updated_at` makes the uid differ for every change."""
    publish_on_commit(
        "demo:orders",
        {"id": instance.pk, "status": instance.status},
        name="order_created" if created else "order_updated",
        uid=f"order-{instance.pk}-{instance.updated_at.timestamp()}",
    )
