"""That clients may have the table. In a migration of its own: Django adds foreign keys at the end of one."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("todos", "0001_initial")]

    operations = [
        migrations.RunSQL("CALL electric.electrify('todos')", "SELECT leyden.disable('todos')"),
    ]
