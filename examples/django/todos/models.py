"""The to-do list, of fields that devices can keep."""

import uuid

from django.db import models


class Todo(models.Model):
    # not AutoField: devices cannot draw from a sequence
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    # not CharField: SQLite would not keep the limit
    title = models.TextField()
    done = models.BooleanField(default=False)
    # not PositiveIntegerField: it comes with a CHECK
    priority = models.IntegerField(default=0, db_index=True)

    class Meta:
        db_table = "todos"
