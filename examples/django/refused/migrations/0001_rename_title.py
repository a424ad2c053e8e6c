"""What devices with yesterday's app cannot follow. It is refused and changes nothing; see README.md."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("todos", "0003_todo_priority")]

    operations = [
        migrations.RunSQL("ALTER TABLE todos RENAME COLUMN title TO text"),
    ]
