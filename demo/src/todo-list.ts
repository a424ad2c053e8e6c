// The list on the screen: rows in, the user's wishes out. It never touches the database.
import { bound, element, part } from './dom'
import type { Todo } from './schema'

export interface TodoActions {
  add(title: string): void
  toggle(todo: Todo): void
  rename(todo: Todo, title: string): void
  remove(todo: Todo): void
  clearDone(): void
}

interface Item {
  todo: Todo
  readonly li: HTMLLIElement
  readonly check: HTMLInputElement
  readonly title: HTMLButtonElement
  readonly author: HTMLSpanElement
}

export class TodoList {
  readonly #items = new Map<string, Item>()
  readonly #ul = part<HTMLUListElement>('todos')
  readonly #clear = part<HTMLButtonElement>('clear-done')
  #drawn = false

  constructor(private readonly actions: TodoActions) {
    const form = part<HTMLFormElement>('add-form')
    const input = part<HTMLInputElement>('new-todo')
    form.addEventListener('submit', (event) => {
      event.preventDefault()
      const title = input.value.trim()
      if (title === '') return
      input.value = ''
      this.actions.add(title)
    })
    this.#clear.addEventListener('click', () => this.actions.clearDone())
  }

  /** The form works from the moment the table exists in the local database. */
  enable(): void {
    part<HTMLInputElement>('new-todo').disabled = false
    part<HTMLButtonElement>('add').disabled = false
  }

  /** `todos` in the order they are to be shown. */
  show(todos: readonly Todo[], emptyText: string): void {
    const gone = new Set(this.#items.keys())
    for (const [position, todo] of todos.entries()) {
      gone.delete(todo.id)
      const item = this.#items.get(todo.id) ?? this.#create(todo)
      this.#update(item, todo)
      // Moving an element takes the focus off it, so only what is out of place is moved.
      if (this.#ul.children[position] !== item.li) this.#ul.insertBefore(item.li, this.#ul.children[position] ?? null)
    }
    for (const id of gone) {
      this.#items.get(id)?.li.remove()
      this.#items.delete(id)
    }
    const open = todos.filter((todo) => !todo.done).length
    bound('empty').hidden = todos.length > 0
    bound('empty').textContent = emptyText
    bound('count').textContent = todos.length > 0 ? `${open} open, ${todos.length - open} done` : ''
    this.#clear.hidden = open === todos.length
    this.#drawn ||= todos.length > 0
  }

  #create(todo: Todo): Item {
    const check = element('input', '')
    check.type = 'checkbox'
    const title = element('button', 'title')
    title.type = 'button'
    title.title = 'Click to change'
    const author = element('span', 'author')
    const remove = element('button', 'remove', '×')
    remove.type = 'button'
    const li = element('li', 'todo', check, title, author, remove)
    li.dataset.id = todo.id
    li.dataset.testid = 'todo'
    const item: Item = { todo, li, check, title, author }
    check.addEventListener('change', () => this.actions.toggle(item.todo))
    title.addEventListener('click', () => this.#edit(item))
    remove.addEventListener('click', () => this.actions.remove(item.todo))
    check.dataset.testid = 'todo-done'
    title.dataset.testid = 'todo-title'
    remove.dataset.testid = 'todo-remove'
    this.#items.set(todo.id, item)
    return item
  }

  #update(item: Item, todo: Todo): void {
    const before = item.li.dataset.shown
    item.todo = todo
    item.check.checked = todo.done
    item.check.setAttribute('aria-label', `Done: ${todo.title}`)
    item.title.textContent = todo.title
    item.author.textContent = todo.author
    item.author.title = `added by ${todo.author}`
    item.li.lastElementChild?.setAttribute('aria-label', `Remove: ${todo.title}`)
    item.li.classList.toggle('done', todo.done)
    const after = JSON.stringify([todo.title, todo.done])
    if (before === after) return
    item.li.dataset.shown = after
    // What changes while somebody looks is lit for a moment; the first drawing is not news.
    if (!this.#drawn) return
    item.li.classList.remove('fresh')
    void item.li.offsetWidth // restarts the animation
    item.li.classList.add('fresh')
  }

  #edit(item: Item): void {
    const input = element('input', 'edit')
    input.value = item.todo.title
    input.maxLength = 200
    input.dataset.testid = 'todo-edit'
    input.setAttribute('aria-label', 'New text')
    let open = true
    const close = (keep: boolean) => {
      if (!open) return // leaving the field fires blur a second time
      open = false
      input.replaceWith(item.title)
      const title = input.value.trim()
      if (keep && title !== '' && title !== item.todo.title) this.actions.rename(item.todo, title)
    }
    input.addEventListener('blur', () => close(true))
    input.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== 'Escape') return
      close(event.key === 'Enter')
      item.title.focus()
    })
    item.title.replaceWith(input)
    input.select()
  }
}
